package sandbox

import _ "embed"

// systemCalls is the filter that every program inside runs under: what package
// filter makes of its policy and of Capabilities. It is kept assembled, for that
// would take a tenth of the time of a `raptor run`; TestSystemCalls compares them.
//
//go:embed filter_amd64.bin
var systemCalls []byte
