#include <stdio.h>

int weight(int n);
int unused_one(int n) { return n + 1; }
int unused_two(int n) { return unused_one(n) * 2; }

static inline int clamp(int n)
{
	return n > 100 ? 100 : n;
}

int main(int argc, char **argv)
{
	printf("%d\n", weight(clamp(argc + 10)));
	return 0;
}
