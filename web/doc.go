// Package web is all HTTP the collector speaks: the API under /api/v1, the
// pages, and the collector's own health, metrics and profiles.
//
// It turns requests into calls of ingest and query and their answers into
// JSON, HTML or pprof; it holds no data of its own but login sessions. It
// checks who asks (tokens and scopes), from where (Host and Origin) and how
// much (sizes, deadlines, memory of bodies being received). Every path stands
// in one route table. It is the only room that knows echo.
//
// A Server is safe for use by several goroutines at once.
package web
