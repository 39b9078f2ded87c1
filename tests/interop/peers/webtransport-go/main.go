// One end of a connection, driven by JSON lines; ../end.py says what the operations are.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/quic-go/webtransport-go"
)

const (
	closeCode   = 4242
	closeReason = "bye é"
	protocol    = "chat.v1"
	// Of a session with session flow control, where an end is asked to be small.
	smallData    = 20_000
	smallStreams = 2
)

type object map[string]any

type request struct {
	ID             int
	Op             string
	CertFile       string
	KeyFile        string
	Small          bool
	URL            string
	Protocols      []string
	Path           string
	Session        int
	Stream         int
	Unidirectional bool
	Count          int
	Size           int
	Code           uint32
	Reason         string
}

// A stream, or the halves of it that there are.
type stream struct {
	send    *webtransport.SendStream
	receive *webtransport.ReceiveStream
	both    *webtransport.Stream
}

func (s stream) reader() io.Reader {
	if s.both != nil {
		return s.both
	}
	return s.receive
}

func (s stream) writer() io.WriteCloser {
	if s.both != nil {
		return s.both
	}
	return s.send
}

type end struct {
	mutex    sync.Mutex
	number   int
	sessions map[int]*webtransport.Session
	streams  map[int]stream
	arrived  map[string]chan *webtransport.Session
}

var background = context.Background()

func (e *end) arrivals(path string) chan *webtransport.Session {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.arrived[path] == nil {
		e.arrived[path] = make(chan *webtransport.Session, 16)
	}
	return e.arrived[path]
}

func (e *end) keepSession(session *webtransport.Session) object {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.number++
	e.sessions[e.number] = session
	return object{"session": e.number, "protocol": chosenProtocol(session)}
}

func (e *end) keepStream(s stream, text string) object {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.number++
	e.streams[e.number] = s
	return object{"stream": e.number, "text": text}
}

func (e *end) session(number int) *webtransport.Session {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.sessions[number]
}

func (e *end) stream(number int) stream {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.streams[number]
}

// The handler of /lab/ and /close; anything else is 404.
func (e *end) handler(upgrade func(http.ResponseWriter, *http.Request) (*webtransport.Session, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/lab/", func(w http.ResponseWriter, r *http.Request) {
		session, err := upgrade(w, r)
		if err != nil {
			fmt.Fprintln(os.Stderr, "upgrade:", err)
			w.WriteHeader(500)
			return
		}
		e.arrivals(r.URL.Path) <- session
	})
	mux.HandleFunc("/close", func(w http.ResponseWriter, r *http.Request) {
		session, err := upgrade(w, r)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		session.CloseWithError(closeCode, closeReason)
	})
	return mux
}

func open(session *webtransport.Session, unidirectional bool) (stream, error) {
	if unidirectional {
		s, err := session.OpenUniStreamSync(background)
		return stream{send: s}, err
	}
	s, err := session.OpenStreamSync(background)
	return stream{both: s}, err
}

func accept(session *webtransport.Session, unidirectional bool) (stream, error) {
	if unidirectional {
		s, err := session.AcceptUniStream(background)
		return stream{receive: s}, err
	}
	s, err := session.AcceptStream(background)
	return stream{both: s}, err
}

func send(s stream, data []byte) error {
	if _, err := s.writer().Write(data); err != nil {
		return err
	}
	return s.writer().Close()
}

func echo(session *webtransport.Session) {
	go func() {
		for {
			s, err := accept(session, false)
			if err != nil {
				return
			}
			go func() {
				if _, err := io.Copy(s.writer(), s.reader()); err == nil {
					s.writer().Close()
				}
			}()
		}
	}()
	go func() {
		for {
			s, err := accept(session, true)
			if err != nil {
				return
			}
			go func() {
				data, err := io.ReadAll(s.reader())
				if err != nil {
					return
				}
				if back, err := open(session, true); err == nil {
					send(back, data)
				}
			}()
		}
	}()
	go func() {
		for {
			data, err := session.ReceiveDatagram(background)
			if err != nil {
				return
			}
			session.SendDatagram(data)
		}
	}()
}

func randomBytes(size int) []byte {
	data := make([]byte, size)
	rand.Read(data)
	return data
}

func exchange(session *webtransport.Session, unidirectional bool, count, size int) (int, error) {
	results := make(chan error, 2*count)
	sent := make([][]byte, count)
	echoes := make([][]byte, count)
	for i := range count {
		sent[i] = randomBytes(size)
		go func() {
			s, err := open(session, unidirectional)
			if err != nil {
				results <- err
				return
			}
			if !unidirectional {
				go func() {
					data, err := io.ReadAll(s.reader())
					echoes[i] = data
					results <- err
				}()
			}
			results <- send(s, sent[i])
		}()
		if unidirectional {
			go func() {
				s, err := accept(session, true)
				if err == nil {
					echoes[i], err = io.ReadAll(s.reader())
				}
				results <- err
			}()
		}
	}
	for range 2 * count {
		if err := <-results; err != nil {
			return 0, err
		}
	}
	equal := 0
	for i, data := range sent {
		for j, echoed := range echoes {
			if (i == j || unidirectional) && bytes.Equal(data, echoed) {
				equal++
				break
			}
		}
	}
	return equal, nil
}

func datagrams(session *webtransport.Session, count, size int) (int, error) {
	equal := 0
	for range count {
		data := randomBytes(size)
		for range 3 {
			if err := session.SendDatagram(data); err != nil {
				return equal, err
			}
			limited, cancel := context.WithTimeout(background, time.Second)
			received, err := session.ReceiveDatagram(limited)
			cancel()
			if err == nil && bytes.Equal(received, data) {
				equal++
				break
			}
		}
	}
	return equal, nil
}

// The code of the peer's end, nil where it has none.
func endCode(err error) (any, error) {
	var ended *webtransport.StreamError
	if !errors.As(err, &ended) {
		return nil, err
	}
	return ended.ErrorCode, nil
}

func (e *end) run(r request) (object, error) {
	switch r.Op {
	case "listen":
		port, err := e.listen(r.CertFile, r.KeyFile, r.Small)
		return object{"port": port}, err
	case "connect":
		response, session, err := dial(r.URL, r.Protocols, r.Small)
		if err != nil {
			if response != nil && response.StatusCode/100 != 2 {
				return object{"status": response.StatusCode}, nil
			}
			return nil, err
		}
		return e.keepSession(session), nil
	case "accept":
		return e.keepSession(<-e.arrivals(r.Path)), nil
	case "echo":
		echo(e.session(r.Session))
		return object{}, nil
	case "exchange":
		equal, err := exchange(e.session(r.Session), r.Unidirectional, r.Count, r.Size)
		return object{"equal": equal}, err
	case "datagrams":
		equal, err := datagrams(e.session(r.Session), r.Count, r.Size)
		return object{"equal": equal}, err
	case "open":
		s, err := open(e.session(r.Session), r.Unidirectional)
		if err == nil {
			_, err = s.writer().Write([]byte("hello"))
		}
		return e.keepStream(s, ""), err
	case "take":
		s, err := accept(e.session(r.Session), r.Unidirectional)
		if err != nil {
			return nil, err
		}
		buffer := make([]byte, 100)
		n, err := s.reader().Read(buffer)
		return e.keepStream(s, string(buffer[:n])), err
	case "finish":
		s := e.stream(r.Stream)
		if err := s.writer().Close(); err != nil {
			return nil, err
		}
		data, err := io.ReadAll(s.reader())
		return object{"text": string(data)}, err
	case "reset":
		if s := e.stream(r.Stream); s.both != nil {
			s.both.CancelWrite(webtransport.StreamErrorCode(r.Code))
		} else {
			s.send.CancelWrite(webtransport.StreamErrorCode(r.Code))
		}
		return object{}, nil
	case "stop":
		if s := e.stream(r.Stream); s.both != nil {
			s.both.CancelRead(webtransport.StreamErrorCode(r.Code))
		} else {
			s.receive.CancelRead(webtransport.StreamErrorCode(r.Code))
		}
		return object{}, nil
	case "ended":
		if _, err := io.ReadAll(e.stream(r.Stream).reader()); err != nil {
			code, err := endCode(err)
			return object{"reset": code}, err
		}
		return object{"fin": true}, nil
	case "stopped":
		for {
			if _, err := e.stream(r.Stream).writer().Write(make([]byte, 100)); err != nil {
				code, err := endCode(err)
				return object{"stop": code}, err
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "close":
		return object{}, e.session(r.Session).CloseWithError(webtransport.SessionErrorCode(r.Code), r.Reason)
	case "closed":
		session := e.session(r.Session)
		<-session.Context().Done()
		var closed *webtransport.SessionError
		_, err := session.AcceptStream(background)
		if errors.As(err, &closed) {
			return object{"code": closed.ErrorCode, "reason": closed.Message}, nil
		}
		return nil, err
	}
	return nil, fmt.Errorf("no operation %q", r.Op)
}

func main() {
	e := &end{
		sessions: map[int]*webtransport.Session{},
		streams:  map[int]stream{},
		arrived:  map[string]chan *webtransport.Session{},
	}
	var output sync.Mutex
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		go func() {
			answer := object{"id": r.ID}
			if result, err := e.run(r); err != nil {
				answer["error"] = err.Error()
			} else {
				answer["ok"] = result
			}
			line, _ := json.Marshal(answer)
			output.Lock()
			defer output.Unlock()
			fmt.Println(string(line))
		}()
	}
}
