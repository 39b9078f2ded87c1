//go:build !v09

package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
)

func configuration(small bool) *webtransport.Config {
	if !small {
		return nil
	}
	return &webtransport.Config{
		MaxIncomingData:       smallData,
		MaxIncomingStreams:    smallStreams,
		MaxIncomingUniStreams: smallStreams,
	}
}

func quicConfiguration() *quic.Config {
	return &quic.Config{
		EnableDatagrams:                  true,
		EnableStreamResetPartialDelivery: true,
		MaxIncomingStreams:               200,
		MaxIncomingUniStreams:            200,
	}
}

func (e *end) listen(certFile, keyFile string, small bool) (int, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return 0, err
	}
	server := &webtransport.Server{
		H3: &http3.Server{
			TLSConfig: http3.ConfigureTLSConfig(
				&tls.Config{Certificates: []tls.Certificate{certificate}},
			),
			QUICConfig: quicConfiguration(),
		},
		Config:               configuration(small),
		ApplicationProtocols: []string{protocol},
		CheckOrigin:          func(*http.Request) bool { return true },
	}
	server.H3.Handler = e.handler(server.Upgrade)
	webtransport.ConfigureHTTP3Server(server.H3)
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	go server.Serve(socket)
	return socket.LocalAddr().(*net.UDPAddr).Port, nil
}

// On a connection of its own that outlives the session: Transport.Dial would close it together
// with the session, and quic-go then drops what it has not sent, at times the code and reason.
func dial(address string, protocols []string, small bool) (*http.Response, *webtransport.Session, error) {
	target, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	connection, err := quic.DialAddr(
		background, target.Host,
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}},
		quicConfiguration(),
	)
	if err != nil {
		return nil, nil, err
	}
	transport := &webtransport.Transport{
		Config:               configuration(small),
		ApplicationProtocols: protocols,
	}
	client, err := transport.NewClientConn(connection)
	if err != nil {
		return nil, nil, err
	}
	return client.Dial(background, address, nil)
}

func chosenProtocol(session *webtransport.Session) any {
	if chosen := session.SessionState().ApplicationProtocol; chosen != "" {
		return chosen
	}
	return nil
}
