package web

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// route is one line of the route table: what is served, to whom, by what.
type route struct {
	method, path string // path in echo's spelling, parameters as :name
	scope        Scope  // what the caller's token must allow; ScopeNone: nothing
	handler      func(echo.Context) error
}

// corePath begins the paths of cores.
const corePath = "/api/v1/cores/"

// apiRoutes is the route table but for the pages (see pageRoutes).
func (s *Server) apiRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{post, "/api/v1/profiles", ScopeIngest, s.pushProfile},

		{get, "/api/v1/version", ScopeNone, s.version},
		{get, "/api/v1/profile", ScopeRead, s.getProfile},
		{get, "/api/v1/profiles", ScopeRead, s.listProfiles},
		{get, "/api/v1/flamegraph", ScopeRead, s.getFlameGraph},
		{get, "/api/v1/diff", ScopeRead, s.getDiff},
		{get, "/api/v1/top", ScopeRead, s.getTop},
		{get, "/api/v1/functions", ScopeRead, s.getFunctions},
		{get, "/api/v1/source", ScopeRead, s.getSource},
		{get, "/api/v1/series", ScopeRead, s.getSeries},
		{get, "/api/v1/labels", ScopeRead, s.getLabels},
		{get, "/api/v1/labels/:name/values", ScopeRead, s.getLabelValues},
		{get, "/api/v1/services", ScopeRead, s.getServices},
		{get, "/api/v1/releases", ScopeRead, s.getReleases},
		{get, "/api/v1/types", ScopeRead, s.getTypes},

		{get, "/api/v1/builds", ScopeRead, s.getBuilds},
		{post, "/api/v1/builds/missing", ScopeIngest, s.missingBuilds},
		{http.MethodPut, "/api/v1/builds/:id", ScopeIngest, s.putBuild},
		{get, "/api/v1/builds/:id", ScopeRead, s.getBuild},
		{get, buildIDPath + ":id/executable", ScopeRead, s.debuginfodExecutable},
		{get, buildIDPath + ":id/debuginfo", ScopeRead, s.debuginfodDebug},
		{get, buildIDPath + ":id/section/:name", ScopeRead, s.debuginfodSection},
		{get, buildIDPath + ":id/source/*", ScopeRead, s.debuginfodSource},

		{http.MethodDelete, "/api/v1/data", ScopeAdmin, s.deleteData},
		{get, "/api/v1/deletions", ScopeAdmin, s.getDeletions},

		{post, "/api/v1/agents/:id/report", ScopeIngest, s.agentReport},
		{get, "/api/v1/agents/:id/commands", ScopeIngest, s.agentCommands},
		{post, "/api/v1/agents/:id/commands/:command", ScopeIngest, s.agentResult},
		{get, "/api/v1/agents", ScopeRead, s.getAgents},
		{get, "/api/v1/targets", ScopeRead, s.getTargets},
		{post, "/api/v1/targets/profile", ScopeRead, s.profileTarget},

		{post, "/api/v1/targets/snapshot", ScopeCore, s.snapshotTarget},

		{post, "/api/v1/crashes", ScopeIngest, s.postCrashes},
		{http.MethodPut, "/api/v1/crashes/:id/text", ScopeIngest, s.putCrashText},
		{get, "/api/v1/crashes", ScopeRead, s.getCrashes},
		{get, "/api/v1/crashes/:id", ScopeRead, s.getCrash},
		{get, "/api/v1/crashes/:id/text", ScopeRead, s.getCrashText},
		{get, "/api/v1/capture", ScopeIngest, s.getCapture},
		{post, "/api/v1/cores", ScopeIngest, s.offerCore},
		{http.MethodPut, corePath + ":id/blocks/:n", ScopeIngest, s.putCoreBlock},
		{post, corePath + ":id/commit", ScopeIngest, s.commitCore},
		{get, "/api/v1/cores", ScopeRead, s.getCores},
		{get, corePath + ":id", ScopeRead, s.getCore},
		{get, corePath + ":id/goroutines", ScopeRead, s.getCoreGoroutines},
		{get, corePath + ":id/core", ScopeCore, s.getCoreFile},
		{get, corePath + ":id/ledger", ScopeCore, s.getCoreLedger},
		{get, corePath + ":id/blocks/:n", ScopeCore, s.getCoreBlock},
		{http.MethodDelete, corePath + ":id", ScopeCore, s.deleteCore},
		{http.MethodPut, corePath + ":id/pin", ScopeCore, s.pinCore},
		{http.MethodDelete, corePath + ":id/pin", ScopeCore, s.unpinCore},
		{get, "/api/v1/audit", ScopeAdmin, s.getAudit},

		{post, "/api/v1/admin/check", ScopeAdmin, s.adminCheck},
		{get, "/api/v1/admin/backup", ScopeAdmin, s.adminBackup},
		{post, "/api/v1/admin/backup", ScopeAdmin, s.adminBackup},

		{post, "/login", ScopeNone, s.login},
		{post, "/logout", ScopeNone, s.logout},

		{get, "/healthz", ScopeNone, s.healthz},
		{get, "/readyz", ScopeNone, s.readyz},
		{get, "/metrics", ScopeRead, s.metricsPage},
		{get, pprofPath, ScopeAdmin, s.pprofPage},
		{get, pprofPath + ":name", ScopeAdmin, s.pprofPage},
		{post, pprofPath + "symbol", ScopeAdmin, s.pprofPage},
	}
}
