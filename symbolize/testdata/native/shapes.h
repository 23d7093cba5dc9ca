#pragma once
#include <string>
#include <vector>

namespace shapes {

class Shape {
public:
	virtual ~Shape() {}
	virtual double area() const = 0;
	int id() const { return number * 3 + 1; }
	int number = 4;
};

template <typename T> struct Box {
	T value;
	T twice() const { return value + value; }
	template <int N> T times() const {
		T sum{};
		for (int i = 0; i < N; i++)
			sum = sum + value;
		return sum;
	}
};

namespace detail {
inline double square(double x) { return x * x; }
inline double cube(double x) {
	double s = square(x);
	return s * x;
}
} // namespace detail

double total(const std::vector<Shape *> &all);

} // namespace shapes
