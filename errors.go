package inquest

import (
	"errors"
	"fmt"
	"net/http"
)

// The kinds of error a caller can act on. Errors of every room wrap exactly
// one of them (check with errors.Is) or none, which means an internal fault.
var (
	ErrInvalid      = errors.New("invalid")      // the input is wrong; sending it again cannot help
	ErrNotFound     = errors.New("not found")    // what was named does not exist
	ErrTooLarge     = errors.New("too large")    // the input exceeds a limit that the message names
	ErrConflict     = errors.New("conflict")     // the same key or id is taken by something else
	ErrUnauthorized = errors.New("unauthorized") // no valid token was given
	ErrForbidden    = errors.New("forbidden")    // the token does not have the scope
	ErrUnavailable  = errors.New("unavailable")  // cannot be done now; try again later
	ErrBusy         = errors.New("busy")         // too much at once; try again after a pause
	ErrDiskFull     = errors.New("disk full")    // no space to store it; reads go on
)

// ErrorKinds is the one table between error kinds, their names in the API's
// JSON and HTTP statuses. The collector reads it forwards, clients backwards.
var ErrorKinds = []struct {
	Err    error
	Name   string // value of error.kind in the API's JSON
	Status int    // HTTP status code
}{
	{ErrInvalid, "invalid", http.StatusBadRequest},
	{ErrNotFound, "not_found", http.StatusNotFound},
	{ErrTooLarge, "too_large", http.StatusRequestEntityTooLarge},
	{ErrConflict, "conflict", http.StatusConflict},
	{ErrUnauthorized, "unauthorized", http.StatusUnauthorized},
	{ErrForbidden, "forbidden", http.StatusForbidden},
	{ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{ErrBusy, "busy", http.StatusTooManyRequests},
	{ErrDiskFull, "disk_full", http.StatusInsufficientStorage},
}

// kindError is an error of a kind with a message of its own: errors.Is finds
// the kind and whatever the message wraps, and Error is the message alone.
type kindError struct {
	kind error
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// Errorf formats an error of the given kind (one of the Err… variables). The
// message is for the person whose input it is about: what is wrong, where,
// and what would be right. %w works as in fmt.Errorf.
func Errorf(kind error, format string, args ...any) error {
	return &kindError{kind, fmt.Errorf(format, args...)}
}

// ErrorStatus returns the API name and HTTP status of err's kind;
// "internal", 500 when it has none.
func ErrorStatus(err error) (name string, status int) {
	for _, k := range ErrorKinds {
		if errors.Is(err, k.Err) {
			return k.Name, k.Status
		}
	}
	return "internal", http.StatusInternalServerError
}

// StatusError is the reverse of ErrorStatus: the kind that belongs to an HTTP
// status, nil when none does.
func StatusError(status int) error {
	for _, k := range ErrorKinds {
		if k.Status == status {
			return k.Err
		}
	}
	return nil
}
