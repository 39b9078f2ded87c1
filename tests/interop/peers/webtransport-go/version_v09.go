//go:build v09

package main

import (
	"crypto/tls"
	"net"
	"net/http"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
)

func quicConfiguration() *quic.Config {
	return &quic.Config{
		EnableDatagrams:       true,
		MaxIncomingStreams:    200,
		MaxIncomingUniStreams: 200,
	}
}

func (e *end) listen(certFile, keyFile string, small bool) (int, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return 0, err
	}
	server := &webtransport.Server{
		H3: http3.Server{
			TLSConfig:  &tls.Config{Certificates: []tls.Certificate{certificate}},
			QUICConfig: quicConfiguration(),
		},
		CheckOrigin: func(*http.Request) bool { return true },
	}
	server.H3.Handler = e.handler(server.Upgrade)
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	go server.Serve(socket)
	return socket.LocalAddr().(*net.UDPAddr).Port, nil
}

func dial(url string, protocols []string, small bool) (*http.Response, *webtransport.Session, error) {
	dialer := &webtransport.Dialer{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		QUICConfig:      quicConfiguration(),
	}
	return dialer.Dial(background, url, nil)
}

// Subprotocols came with a later version.
func chosenProtocol(*webtransport.Session) any { return nil }
