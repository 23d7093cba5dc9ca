module dies

go 1.20
