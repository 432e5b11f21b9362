package rapt

// A statement is one instruction as the parser found it: well formed, but not
// yet looked at for what it means.
type statement struct {
	extent    // from the keyword to the end of the last token
	keyword   string
	options   []option
	words     []word     // all that is neither option nor argument
	arguments []argument // of INCLUDE and RENDER
}

// An option is "--name" or "--name=value".
type option struct {
	extent
	name  string
	value word // its extent is that of the value alone
}

// A word is text without white space outside of quotes.
type word struct {
	extent
	text   string
	quoted bool // begins with a quote, so that it is never an option
	plain  bool // has no quotes at all: text is as written
}

// An argument is a variable that INCLUDE and RENDER hand on.
type argument struct {
	extent
	name  string
	value *expression // nil: the variable of the same name
}

// An expression is the value of an argument, before lookups are resolved.
type expression struct {
	extent
	kind    expressionKind
	text    string  // of a string
	path    []word  // of a lookup
	integer int64   // of an integer; 1 for true
	items   []entry // of a list and a map
}

type entry struct {
	key   *expression // nil in a list
	value *expression
}

type expressionKind int

const (
	lookupExpression expressionKind = iota
	stringExpression
	integerExpression
	booleanExpression
	noneExpression
	listExpression
	mapExpression
)

// The instructions, and what each is in one line, for suggestions.
var keywords = []string{
	"FROM", "RUN", "ENV", "WORKDIR", "WRITE", "MKDIR", "COPY", "RENDER",
	"INCLUDE", "MOUNT", "ENTRYPOINT", "CMD",
}

// Options that may stand after a keyword, without their dashes.
var (
	fileOptions  = []string{"--chmod", "--chown"}
	mkdirOptions = []string{"--chmod", "--chown", "-p"}
	mountOptions = []string{"--simple", "--file", "--layers", "--overlay", "--readonly", "--readwrite", "--optional", "--required"}
)
