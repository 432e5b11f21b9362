package rapt_test

import (
	"fmt"
	"os"
	"path/filepath"

	"raptor-make/rapt"
)

func ExampleLoader() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	text := "FROM debian://trixie\n$ for p in [\"curl\", \"vim\"]\nRUN apt-get install {{ p }}\n$ endfor\n"
	if err := os.WriteFile(filepath.Join(dir, "web.rapt"), []byte(text), 0o644); err != nil {
		panic(err)
	}

	loader := &rapt.Loader{Project: &rapt.Package{Root: dir}}
	program, err := loader.Load("web", rapt.Span{}, nil)
	if err != nil {
		fmt.Println(err) // rapt.Diagnostics, with the lines of the file
		return
	}
	fmt.Println(program.From.URL)
	for _, instruction := range program.Build {
		fmt.Printf("line %d: %q\n", instruction.Span.Line, instruction.Op.(*rapt.Run).Args)
	}
	// Output:
	// debian://trixie
	// line 3: ["apt-get" "install" "curl"]
	// line 3: ["apt-get" "install" "vim"]
}

func ExampleFormat() {
	text := []byte("RUN   apt-get  install \"curl\"   # a comment\n")
	formatted, err := rapt.Format(text, "web.rapt")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s", formatted)
	// Output:
	// RUN apt-get install curl # a comment
}
