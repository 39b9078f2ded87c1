// quic-interop-runner's WebTransport cases on webtransport-go, as its webtransport.md defines them:
// the other side of ../../../../../interop/endpoint.py, with the same environment variables.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
)

var background = context.Background()

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	}
}

func words(name string) []string { return strings.Fields(os.Getenv(name)) }

// The path of the session and the files to ask for: the local tests have one session.
func requests() (string, []string) {
	var path string
	var files []string
	for _, request := range words("REQUESTS") {
		target, err := url.Parse(request)
		check(err)
		first, file, found := strings.Cut(strings.Trim(target.Path, "/"), "/")
		path = first
		if found {
			files = append(files, file)
		}
	}
	return path, files
}

func content(path, file string) []byte {
	data, err := os.ReadFile(filepath.Join(os.Getenv("WWW"), path, filepath.Base(file)))
	check(err)
	return data
}

func store(path, file string, data []byte) {
	directory := filepath.Join(os.Getenv("DOWNLOADS"), path)
	check(os.MkdirAll(directory, 0o755))
	check(os.WriteFile(filepath.Join(directory, filepath.Base(file)), data, 0o644))
}

func requested(data []byte) string { return strings.TrimPrefix(string(data), "GET ") }

func push(path, file string) []byte {
	return append([]byte("PUSH "+file+"\n"), content(path, file)...)
}

func storePush(path string, data []byte) string {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	file := strings.TrimPrefix(string(head), "PUSH ")
	store(path, file, body)
	return file
}

func send(stream io.WriteCloser, data []byte) {
	_, err := stream.Write(data)
	check(err)
	check(stream.Close())
}

// Answer until the other side ends the session.
func answer(session *webtransport.Session, path string) {
	go func() {
		for {
			stream, err := session.AcceptStream(background)
			if err != nil {
				return
			}
			go func() {
				data, err := io.ReadAll(stream)
				check(err)
				send(stream, content(path, requested(data)))
			}()
		}
	}()
	go func() {
		for {
			stream, err := session.AcceptUniStream(background)
			if err != nil {
				return
			}
			go func() {
				data, err := io.ReadAll(stream)
				check(err)
				back, err := session.OpenUniStreamSync(background)
				check(err)
				send(back, push(path, requested(data)))
			}()
		}
	}()
	go func() {
		for {
			data, err := session.ReceiveDatagram(background)
			if err != nil {
				return
			}
			session.SendDatagram(push(path, requested(data)))
		}
	}()
	<-session.Context().Done()
}

func fetch(kind string, session *webtransport.Session, path string, files []string) {
	var group sync.WaitGroup
	for _, file := range files {
		request := []byte("GET " + file)
		switch kind {
		case "unidirectional":
			group.Go(func() {
				stream, err := session.OpenUniStreamSync(background)
				check(err)
				send(stream, request)
			})
			group.Go(func() {
				stream, err := session.AcceptUniStream(background)
				check(err)
				data, err := io.ReadAll(stream)
				check(err)
				storePush(path, data)
			})
		case "bidirectional":
			group.Go(func() {
				stream, err := session.OpenStreamSync(background)
				check(err)
				send(stream, request)
				data, err := io.ReadAll(stream)
				check(err)
				store(path, file, data)
			})
		case "datagram":
			for {
				check(session.SendDatagram(request))
				limited, cancel := context.WithTimeout(background, time.Second)
				data, err := session.ReceiveDatagram(limited)
				cancel()
				if err == nil && storePush(path, data) == file {
					break
				}
			}
		}
	}
	group.Wait()
}

func run(session *webtransport.Session, path string, files []string) {
	switch name := os.Getenv("TESTCASE"); name {
	case "handshake":
		chosen := session.SessionState().ApplicationProtocol
		directory := os.Getenv("DOWNLOADS")
		check(os.MkdirAll(directory, 0o755))
		check(os.WriteFile(filepath.Join(directory, "negotiated_protocol.txt"), []byte(chosen), 0o644))
		if os.Getenv("ROLE") == "server" {
			<-session.Context().Done()
		}
	case "transfer":
		answer(session, path)
	default:
		fetch(strings.Split(name, "-")[1], session, path, files)
	}
}

func configuration() *quic.Config {
	return &quic.Config{
		EnableDatagrams:                  true,
		EnableStreamResetPartialDelivery: true,
		MaxIncomingStreams:               200,
		MaxIncomingUniStreams:            200,
	}
}

func main() {
	path, files := requests()
	if os.Getenv("ROLE") == "client" {
		target, err := url.Parse(words("REQUESTS")[0])
		check(err)
		connection, err := quic.DialAddr(
			background, target.Host,
			&tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}},
			configuration(),
		)
		check(err)
		transport := &webtransport.Transport{ApplicationProtocols: words("PROTOCOLS")}
		client, err := transport.NewClientConn(connection)
		check(err)
		_, session, err := client.Dial(background, "https://"+target.Host+"/"+path, nil)
		check(err)
		run(session, path, files)
		session.CloseWithError(0, "")
		time.Sleep(100 * time.Millisecond) // closing the connection drops what is not sent
		connection.CloseWithError(0x100, "")
		return
	}
	certificate, err := tls.LoadX509KeyPair(os.Getenv("CERTS")+"/cert.pem", os.Getenv("CERTS")+"/priv.key")
	check(err)
	done := make(chan struct{})
	server := &webtransport.Server{
		H3: &http3.Server{
			TLSConfig:  http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}}),
			QUICConfig: configuration(),
		},
		ApplicationProtocols: words("PROTOCOLS"),
		CheckOrigin:          func(*http.Request) bool { return true },
	}
	server.H3.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := server.Upgrade(w, r)
		check(err)
		go func() {
			run(session, strings.Trim(r.URL.Path, "/"), files)
			session.CloseWithError(0, "")
			time.Sleep(100 * time.Millisecond)
			close(done)
		}()
	})
	webtransport.ConfigureHTTP3Server(server.H3)
	socket, err := net.ListenPacket("udp", "127.0.0.1:"+os.Getenv("PORT"))
	check(err)
	go server.Serve(socket)
	fmt.Println("listening on port", os.Getenv("PORT"))
	<-done
}
