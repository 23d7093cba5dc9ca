#include "shapes.h"

#include <cstdio>

extern "C" int plain(int x);

template <typename T> __attribute__((noinline)) T grow(T x) {
	shapes::Box<T> b{x};
	return b.template times<5>() + b.twice();
}

int main(int argc, char **argv) {
	std::string s = grow(std::string(argv[0]));
	std::printf("%d %s %f\n", plain(argc), s.c_str(), grow(1.5 * argc));
	return 0;
}
