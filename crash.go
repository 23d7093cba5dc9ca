package inquest

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Tier is how much is kept of a process that died.
type Tier string

// The tiers, each with all of those before it.
const (
	TierNone Tier = "none" // the event is counted
	TierText Tier = "text" // and what the process wrote while it died
	TierMini Tier = "mini" // and a core of registers, goroutines, stacks, data and what they point to
	TierFull Tier = "full" // and all of its memory
)

var tierOrder = map[Tier]int{TierNone: 0, TierText: 1, TierMini: 2, TierFull: 3}

// Valid reports whether t is one of the tiers.
func (t Tier) Valid() bool { _, ok := tierOrder[t]; return ok }

// Min is the lesser of two tiers; one that is not valid counts as TierNone.
func (t Tier) Min(u Tier) Tier {
	if tierOrder[u] < tierOrder[t] {
		t = u
	}
	if !t.Valid() {
		return TierNone
	}
	return t
}

// Cores reports whether a core is kept.
func (t Tier) Cores() bool { return tierOrder[t] >= tierOrder[TierMini] }

// What a Crash is.
const (
	CrashDeath    = "crash"    // a process died of itself: panic, throw, signal
	CrashOOM      = "oom"      // the kernel killed it for memory; nothing else is left
	CrashSnapshot = "snapshot" // a process that goes on was copied
)

// ClassUnknown is the class of a crash whose text lacks the line that says
// what it was, as SetCrashOutput writes it for what the runtime throws.
const ClassUnknown = "fatal:unknown"

// Crash is one death of a process, or one snapshot of a live one. What is told
// of it from several places (its own text, its core, its cgroup) has the same
// ID and is merged where it is stored.
type Crash struct {
	ID       string            `json:"id"`   // 32 hex digits, see CrashID
	Kind     string            `json:"kind"` // CrashDeath, CrashOOM, CrashSnapshot
	At       time.Time         `json:"at"`   // UTC
	Service  string            `json:"service"`
	Instance string            `json:"instance,omitempty"`
	Release  string            `json:"release,omitempty"` // explicit label
	Labels   map[string]string `json:"labels,omitempty"`  // others of the target
	Process  string            `json:"process,omitempty"` // see ProfileMeta.Process
	Build    string            `json:"build,omitempty"`   // build id
	Agent    string            `json:"agent,omitempty"`   // id of the agent that tells it
	Host     string            `json:"host,omitempty"`

	PID     int       `json:"pid,omitempty"` // as the agent's host counts
	Exe     string    `json:"exe,omitempty"`
	UID     int       `json:"uid,omitempty"`
	Started time.Time `json:"started,omitzero"` // the process

	// Class says what it was: "signal:SIGSEGV", "panic:<type>", "fatal:<text>",
	// "oom", "snapshot". Message is the line for people.
	Class   string  `json:"class,omitempty"`
	Message string  `json:"message,omitempty"`
	Signal  int     `json:"signal,omitempty"` // that ended it, 0 if unknown
	Frames  []Frame `json:"frames,omitempty"` // of the goroutine that died, innermost first; at most CrashFrames
	// Key is what captures are rationed by: equal for deaths at the same place.
	// See coredump.
	Key string `json:"key,omitempty"`

	Wanted Tier          `json:"wanted,omitempty"`  // by the policy in force
	Tier   Tier          `json:"tier"`              // what there is
	Reason string        `json:"reason,omitempty"`  // why it is less than wanted
	Held   time.Duration `json:"held_ns,omitempty"` // how long the process was kept from ending, or stopped
	Count  int64         `json:"count,omitempty"`   // deaths alike that this stands for, itself included; 0 is 1
	Source []string      `json:"source,omitempty"`  // who told: socket, pipe, directory, systemd, client, stderr, journal, cgroup, api, command
	Facts  *Facts        `json:"facts,omitempty"`
	Text   *CrashText    `json:"text,omitempty"`
	Core   *Core         `json:"core,omitempty"`
}

// CrashFrames is how many frames a Crash has at most.
const CrashFrames = 64

// Deaths is how many deaths the record stands for.
func (c *Crash) Deaths() int64 { return max(1, c.Count) }

// CrashID names the death of a process: the same whoever tells it.
func CrashID(process string) string { return crashID("death", process) }

// SnapshotID names one snapshot of a process.
func SnapshotID(process string, at time.Time) string {
	return crashID("snapshot", process+"\x00"+at.UTC().Format(time.RFC3339Nano))
}

// TextID names a crash of which nothing but a text is known, and where from.
func TextID(service, instance string, at time.Time, text []byte) string {
	return crashID("text", service+"\x00"+instance+"\x00"+at.UTC().Format(time.RFC3339Nano)+"\x00"+string(text))
}

func crashID(kind, of string) string {
	h := sha256.Sum256([]byte(kind + "\x00" + of))
	return hex.EncodeToString(h[:16])
}

// CrashText is what a process wrote while it died, in short.
type CrashText struct {
	Bytes      int64             `json:"bytes"`                // it wrote, as far as that is known
	Kept       int64             `json:"kept"`                 // of them
	Goroutines int               `json:"goroutines,omitempty"` // in the text
	Buckets    []GoroutineBucket `json:"buckets,omitempty"`    // those with the most goroutines first
	Truncated  bool              `json:"truncated,omitempty"`  // there was more text, or more buckets
}

// GoroutineBucket is goroutines with the same state and stack.
type GoroutineBucket struct {
	State  string  `json:"state"` // "running", "chan receive", …
	Count  int     `json:"count"`
	IDs    []int64 `json:"ids,omitempty"`          // of some
	Wait   int     `json:"wait_minutes,omitempty"` // longest
	Locked bool    `json:"locked,omitempty"`       // to a thread
	Frames []Frame `json:"frames"`                 // innermost first
	By     *Frame  `json:"by,omitempty"`           // what started them
	First  bool    `json:"first,omitempty"`        // has the goroutine that died
	Cut    bool    `json:"cut,omitempty"`          // the stack has more frames than the text
}

// Core is the copied memory of a process.
type Core struct {
	ID        string `json:"id"`    // 32 hex digits; of what it holds, so equal cores have equal ids
	Crash     string `json:"crash"` // Crash.ID
	Tier      Tier   `json:"tier"`  // TierMini or TierFull
	Arch      string `json:"arch"`  // "amd64", "arm64"
	GoVersion string `json:"go_version,omitempty"`
	Build     string `json:"build,omitempty"` // build id, from the executable
	GoBuildID string `json:"go_build_id,omitempty"`
	Threads   int    `json:"threads,omitempty"`

	VirtualBytes int64 `json:"virtual_bytes"` // of the core file it stands for
	MemoryBytes  int64 `json:"memory_bytes"`  // of memory that are here
	StoredBytes  int64 `json:"stored_bytes"`  // packed
	Blocks       int   `json:"blocks,omitempty"`
	Complete     bool  `json:"complete"` // all of its blocks are here

	// Missing says for people what is not in it, Blanked what was overwritten.
	Missing []string `json:"missing,omitempty"`
	Blanked []string `json:"blanked,omitempty"`
}

// Facts are what the host knew about a process when it died. Zero is unknown.
type Facts struct {
	Cgroup      string `json:"cgroup,omitempty"`
	Unit        string `json:"unit,omitempty"`      // of systemd
	Container   string `json:"container,omitempty"` // id
	Runtime     string `json:"runtime,omitempty"`   // docker, containerd, crio, podman
	Pod         string `json:"pod,omitempty"`       // name, else uid
	PodUID      string `json:"pod_uid,omitempty"`
	Namespace   string `json:"namespace,omitempty"` // of Kubernetes
	Image       string `json:"image,omitempty"`
	ImageDigest string `json:"image_digest,omitempty"`

	MemoryBytes int64   `json:"memory_bytes,omitempty"` // of the cgroup, when asked
	MemoryPeak  int64   `json:"memory_peak,omitempty"`
	MemoryLimit int64   `json:"memory_limit,omitempty"`
	SwapLimit   int64   `json:"swap_limit,omitempty"`
	CPULimit    float64 `json:"cpu_limit,omitempty"` // cores
	PIDsLimit   int64   `json:"pids_limit,omitempty"`
	OOMKills    int64   `json:"oom_kills,omitempty"` // of the cgroup, ever
	OOMs        int64   `json:"ooms,omitempty"`      // times it was at its limit with nothing to reclaim

	RSSBytes   int64             `json:"rss_bytes,omitempty"` // of the process
	FDs        int               `json:"fds,omitempty"`       // open files
	Threads    int               `json:"threads,omitempty"`
	Rlimits    map[string]string `json:"rlimits,omitempty"` // "core": "0", "nofile": "1024"
	Kernel     string            `json:"kernel,omitempty"`  // release
	BootID     string            `json:"boot_id,omitempty"`
	CPUs       int               `json:"cpus,omitempty"`
	HostMemory int64             `json:"host_memory,omitempty"` // bytes
	Load       float64           `json:"load,omitempty"`        // over one minute
}

// CapturePolicy says what to keep of a death. It comes with the answer to an
// agent's report, so that nothing has to be asked while a process is held.
type CapturePolicy struct {
	Default Tier          `json:"default,omitempty"` // of what no rule matches; "" leaves it to the agent
	Rules   []CaptureRule `json:"rules,omitempty"`   // the first that matches counts
	// Builds are those the rules know of. Of others an agent may ask first.
	Builds []string `json:"builds,omitempty"`
}

// CaptureRule is one line of a policy. Empty fields match everything.
type CaptureRule struct {
	Service string `json:"service,omitempty"` // a pattern of * and ?
	Build   string `json:"build,omitempty"`
	Key     string `json:"key,omitempty"`
	Tier    Tier   `json:"tier"`
}

// CoreOffer asks whether a core is wanted (POST /api/v1/cores). The same offer
// again tells what is still missing.
type CoreOffer struct {
	Crash  Crash  `json:"crash"`  // with its Core
	Ledger []byte `json:"ledger"` // see coredump: all of the core but the blocks
}

// CoreAnswer is the answer to a CoreOffer.
type CoreAnswer struct {
	ID      string     `json:"id"`                // Core.ID
	Want    Tier       `json:"want"`              // TierNone, TierText: nothing more. TierMini: the blocks of the minicore
	Missing [][2]int   `json:"missing,omitempty"` // blocks that are to be sent, as half-open ranges
	Core    *Core      `json:"core,omitempty"`    // once committed
	Until   *time.Time `json:"until,omitempty"`   // when what was sent is thrown away if nothing more comes
}

// CaptureState is how an agent gets at cores, for its report.
type CaptureState struct {
	Mode     string   `json:"mode,omitempty"`    // socket, pipe, directory, systemd, off
	Problem  string   `json:"problem,omitempty"` // why it is off, or less than it could be
	Deaths   int64    `json:"deaths,omitempty"`  // of Go processes, since the agent started
	Cores    int64    `json:"cores,omitempty"`   // taken of them
	Rejected int64    `json:"rejected,omitempty"`
	Failed   int64    `json:"failed,omitempty"`
	Foreign  int64    `json:"foreign,omitempty"` // not of Go, given to the old handler
	Gaps     int64    `json:"gaps,omitempty"`    // times in which cores may have been lost, as after a crash of the agent
	Waiting  int64    `json:"waiting,omitempty"` // cores in the spool
	Bytes    int64    `json:"bytes,omitempty"`   // they take
	Quota    int64    `json:"quota_bytes,omitempty"`
	Dropped  int64    `json:"dropped,omitempty"` // from the spool, unsent
	Error    string   `json:"last_error,omitempty"`
	Watched  []string `json:"watched,omitempty"` // files and units whose text is read
}

// VerbSnapshot copies the memory of a target that goes on, see Command.
const VerbSnapshot = "snapshot"
