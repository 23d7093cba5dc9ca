package capture

import (
	"context"

	"github.com/goinquest/inquest"
)

// file deals with a death of which there is a core in a file, and maybe no
// process any more.
func (j *death) file(ctx context.Context) (outcome string, err error) {
	return outcomeFailed, inquest.Errorf(inquest.ErrUnavailable, "cores in files are not read yet")
}
