package web

// Route is a line of the route table as tests see it.
type Route struct {
	Method, Path string
	Scope        Scope
}

// Routes is the route table.
func (s *Server) Routes() []Route {
	var out []Route
	for _, r := range s.table {
		out = append(out, Route{r.method, r.path, r.scope})
	}
	return out
}
