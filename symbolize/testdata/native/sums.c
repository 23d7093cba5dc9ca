#include <stdio.h>
#include <stdlib.h>

static volatile int seen;

static inline int add(int a, int b)
{
	seen = a;
	return a + b;
}

static inline int add3(int a, int b, int c)
{
	int s = add(a, b);
	return add(s, c);
}

static __attribute__((noinline)) int walk(int *v, int n)
{
	int sum = 0;
	for (int i = 0; i < n; i++) {
		if (v[i] < 0)
			abort();
		sum = add3(sum, v[i], i);
	}
	return sum;
}

int weight(int n)
{
	int *v = calloc(n, sizeof *v);
	for (int i = 0; i < n; i++)
		v[i] = add(i, n);
	int s = walk(v, n);
	free(v);
	return s;
}
