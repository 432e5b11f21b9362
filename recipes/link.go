package recipes

// Git is where a link to a git repository leads.
type Git struct {
	URL Value
	Rev Value // a tag, a branch or a full commit
}
