package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ExportList is all exports: those of the settings, then those of the files of exports_file. Several lines for one
// path are one export. All errors are given, each with file and line.
func (c *Config) ExportList() ([]*Export, error) {
	var list []*Export
	var bad []error
	for _, text := range c.Exports {
		e, err := ParseExport(text)
		if err != nil {
			bad = append(bad, fmt.Errorf("export %q: %w", text, err))
			continue
		}
		list = append(list, e)
	}
	files, err := exportFiles(c.ExportsFile)
	if err != nil {
		bad = append(bad, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		more, err := parseExports(f, string(text))
		if err != nil {
			bad = append(bad, err)
		}
		list = append(list, more...)
	}
	var out []*Export
	byPath := map[string]*Export{}
	for _, e := range list {
		first := byPath[e.Path]
		if first == nil {
			byPath[e.Path] = e
			out = append(out, e)
			continue
		}
		if err := first.merge(e); err != nil {
			if e.Source != "" {
				err = fmt.Errorf("%s: %w", e.Source, err)
			}
			bad = append(bad, err)
		}
	}
	return out, errors.Join(bad...)
}

// exportFiles are the files that a list of files and directories, separated by commas, stands for. Of a directory
// it is those that end in ".exports" and begin with no dot, in the order of their names, as of /etc/exports.d.
func exportFiles(list string) ([]string, error) {
	var out []string
	for _, p := range strings.Split(list, ",") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		st, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("exports_file: %w", err)
		}
		if !st.IsDir() {
			out = append(out, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, fmt.Errorf("exports_file: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".exports") && !strings.HasPrefix(e.Name(), ".") {
				out = append(out, filepath.Join(p, e.Name()))
			}
		}
	}
	return out, nil
}

// parseExports parses a file of exports(5). name is that of the file, for errors; all errors are given, beside what
// could be understood.
func parseExports(name, text string) ([]*Export, error) {
	var out []*Export
	var bad []error
	fail := func(line int, err error) {
		if name != "" {
			err = fmt.Errorf("%s:%d: %w", name, line, err)
		}
		bad = append(bad, err)
	}
	r := wordReader{text: text, line: 1}
	for !r.end() {
		line := r.line
		words, first, err := r.words()
		if first != 0 {
			line = first
		}
		if err == nil && len(words) == 0 {
			continue
		}
		var e *Export
		if err == nil {
			e, err = parseLine(words)
		}
		if err != nil {
			fail(line, err)
			continue
		}
		e.Source = fmt.Sprintf("%s:%d", name, line)
		out = append(out, e)
	}
	return out, errors.Join(bad...)
}

// A wordReader splits a text of exports(5) into lines of words.
type wordReader struct {
	text string
	line int // of the next byte, from 1
}

func (r *wordReader) end() bool { return r.text == "" }

// words are the words of the next line, with what continues it, and the line on which the first stands. A word may be
// quoted, wholly or in part; a backslash before three octal digits is a byte, before the end of a line continues it.
func (r *wordReader) words() (words []string, first int, err error) {
	var word strings.Builder
	in, quoted, comment := false, false, false
	done := func() {
		if in {
			words = append(words, word.String())
		}
		word.Reset()
		in = false
	}
	begin := func() {
		if len(words) == 0 && !in {
			first = r.line
		}
		in = true
	}
	for r.text != "" {
		b := r.text[0]
		n := 1
		switch {
		case b == '\n':
			r.text = r.text[1:]
			r.line++
			done()
			if quoted && err == nil {
				err = errors.New("a quote is not closed")
			}
			return words, first, err
		case comment:
		case b == '\\' && continues(r.text[1:]) > 0:
			n = 1 + continues(r.text[1:])
			r.line++
			if !quoted {
				done()
			}
		case b == '\\' && len(r.text) >= 4 && octal(r.text[1:4]) >= 0:
			begin()
			word.WriteByte(byte(octal(r.text[1:4])))
			n = 4
		case b == '"':
			begin()
			quoted = !quoted
		case quoted:
			word.WriteByte(b)
		case b == ' ' || b == '\t' || b == '\r':
			done()
		case b == '#' && !in:
			comment = true
		default:
			begin()
			word.WriteByte(b)
		}
		r.text = r.text[n:]
	}
	done()
	if quoted && err == nil {
		err = errors.New("a quote is not closed")
	}
	return words, first, err
}

// continues is how many bytes of line end s begins with.
func continues(s string) int {
	switch {
	case strings.HasPrefix(s, "\n"):
		return 1
	case strings.HasPrefix(s, "\r\n"):
		return 2
	}
	return 0
}

// octal is the byte that three octal digits are, or -1.
func octal(s string) int {
	n := 0
	for i := range 3 {
		if s[i] < '0' || s[i] > '7' {
			return -1
		}
		n = n*8 + int(s[i]-'0')
	}
	if n > 255 {
		return -1
	}
	return n
}
