// An empty file, so that main may have functions without a body.
