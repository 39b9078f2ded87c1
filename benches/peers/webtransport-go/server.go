// The operations of ../server.py.
package main

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
)

var message = make([]byte, 64)

type subscribers struct {
	mutex   sync.Mutex
	streams []*webtransport.Stream
}

func serve(port int, certFile, keyFile string) error {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	server := &webtransport.Server{
		H3: &http3.Server{
			Handler: mux,
			TLSConfig: http3.ConfigureTLSConfig(
				&tls.Config{Certificates: []tls.Certificate{certificate}},
			),
			QUICConfig: quicConfiguration(),
		},
	}
	webtransport.ConfigureHTTP3Server(server.H3)
	var listeners subscribers
	mux.HandleFunc("/bench", func(w http.ResponseWriter, r *http.Request) {
		session, err := server.Upgrade(w, r)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		serveSession(session, &listeners)
	})
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return err
	}
	return server.Serve(socket)
}

func serveSession(session *webtransport.Session, listeners *subscribers) {
	var datagrams atomic.Uint64
	go func() {
		for {
			data, err := session.ReceiveDatagram(background)
			if err != nil {
				return
			}
			if len(data) > 0 && data[0] == 'e' {
				session.SendDatagram(data)
			} else {
				datagrams.Add(1)
			}
		}
	}()
	for {
		stream, err := session.AcceptStream(background)
		if err != nil {
			return
		}
		go serveStream(stream, &datagrams, listeners)
	}
}

func serveStream(stream *webtransport.Stream, datagrams *atomic.Uint64, listeners *subscribers) {
	head := make([]byte, 9)
	if _, err := io.ReadFull(stream, head); err != nil {
		return
	}
	argument := int(binary.BigEndian.Uint64(head[1:]))
	switch head[0] {
	case 'E':
		data, err := io.ReadAll(stream)
		if err != nil {
			return
		}
		stream.Write(data)
	case 'U':
		size, err := count(stream)
		if err != nil {
			return
		}
		stream.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	case 'D':
		if write(stream, argument) != nil {
			return
		}
	case 'C':
		stream.Write(binary.BigEndian.AppendUint64(nil, datagrams.Load()))
	case 'S':
		stream.Write([]byte("+"))
		listeners.mutex.Lock()
		defer listeners.mutex.Unlock()
		listeners.streams = append(listeners.streams, stream)
		return
	case 'F':
		listeners.fanOut(argument)
		stream.Write([]byte("+"))
	}
	stream.Close()
}

func (s *subscribers) fanOut(rounds int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for range rounds {
		for _, stream := range s.streams {
			stream.Write(message)
		}
	}
	for _, stream := range s.streams {
		stream.Close()
	}
	s.streams = nil
}

func count(stream io.Reader) (int, error) {
	buffer := make([]byte, chunk)
	total := 0
	for {
		size, err := stream.Read(buffer)
		total += size
		if err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}

func write(stream io.Writer, left int) error {
	data := make([]byte, chunk)
	for left > 0 {
		size := min(left, chunk)
		if _, err := stream.Write(data[:size]); err != nil {
			return err
		}
		left -= size
	}
	return nil
}
