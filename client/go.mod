module github.com/goinquest/inquest/client

go 1.23
