module small

go 1.20
