// The workloads of ../client.py: the same steps, counts and names of figures.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quic-go/webtransport-go"
)

const fanClients = 100

type figures map[string]any

type bench struct {
	url    string
	server string
	dialer *webtransport.Transport
}

func run(workload string, port int, server string) (figures, error) {
	b := bench{
		url:    fmt.Sprintf("https://127.0.0.1:%d/bench", port),
		server: server,
		dialer: &webtransport.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}},
			QUICConfig:      quicConfiguration(),
		},
	}
	workloads := map[string]func() (figures, error){
		"handshake":           b.handshake,
		"rr":                  b.rr,
		"rr32":                b.rr32,
		"upload":              b.upload,
		"download":            b.download,
		"streams1000":         b.streams1000,
		"datagram_rtt":        b.datagramRTT,
		"datagram_rate":       b.datagramRate,
		"rr_beside_upload":    b.rrBesideUpload,
		"rr_beside_datagrams": b.rrBesideDatagrams,
		"fan_out":             b.fanOut,
		"idle":                b.idle,
	}
	work := workloads[workload]
	if work == nil {
		return nil, errors.New("no such workload")
	}
	return work()
}

func (b bench) connect() (*webtransport.Session, error) {
	_, session, err := b.dialer.Dial(background, b.url, nil)
	return session, err
}

// A session that has answered once.
func (b bench) begin() (*webtransport.Session, error) {
	session, err := b.connect()
	if err != nil {
		return nil, err
	}
	return session, echo(session)
}

func (b bench) handshake() (figures, error) {
	var samples []float64
	start := time.Now()
	connections := setting("CONNECTIONS", 200)
	for range connections {
		begin := time.Now()
		session, err := b.connect()
		if err != nil {
			return nil, err
		}
		samples = append(samples, milliseconds(begin))
		session.CloseWithError(0, "")
	}
	elapsed := time.Since(start).Seconds()
	return figures{
		"handshake_p50_ms": percentile(samples, 0.5), "connections_s": float64(connections) / elapsed,
	}, nil
}

func (b bench) rr() (figures, error) {
	session, err := b.connect()
	if err != nil {
		return nil, err
	}
	for range 100 {
		if err := echo(session); err != nil {
			return nil, err
		}
	}
	samples, err := roundTrips(session)
	if err != nil {
		return nil, err
	}
	return figures{
		"rr_p50_ms": percentile(samples, 0.5), "rr_p99_ms": percentile(samples, 0.99),
	}, nil
}

func (b bench) rr32() (figures, error) {
	session, err := b.begin()
	if err != nil {
		return nil, err
	}
	total := setting("RR32", 20_000)
	var done atomic.Int64
	start := time.Now()
	err = together(32, func(int) error {
		for done.Add(1) <= int64(total) {
			if err := echo(session); err != nil {
				return err
			}
		}
		return nil
	})
	return figures{"rr32_s": float64(total) / time.Since(start).Seconds()}, err
}

func (b bench) upload() (figures, error) {
	return b.bulk("upload_MBs", upload)
}

func (b bench) download() (figures, error) {
	return b.bulk("download_MBs", download)
}

func (b bench) bulk(name string, move func(*webtransport.Session, int) error) (figures, error) {
	session, err := b.connect()
	if err != nil {
		return nil, err
	}
	if err := move(session, 1<<20); err != nil {
		return nil, err
	}
	megabytes := setting("MB", 256)
	start := time.Now()
	err = move(session, megabytes<<20)
	return figures{name: float64(megabytes) / time.Since(start).Seconds()}, err
}

func (b bench) streams1000() (figures, error) {
	session, err := b.begin()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	streams := setting("UPLOADS", 1_000)
	err = together(streams, func(int) error { return upload(session, 65_536) })
	megabytes := float64(streams) * 65_536 / (1 << 20)
	return figures{"streams1000_MBs": megabytes / time.Since(start).Seconds()}, err
}

func (b bench) datagramRTT() (figures, error) {
	session, err := b.connect()
	if err != nil {
		return nil, err
	}
	var samples []float64
	for range 100 + setting("REQUESTS", 1_000) {
		begin := time.Now()
		if err := session.SendDatagram(datagram('e')); err != nil {
			return nil, err
		}
		limited, cancel := context.WithTimeout(background, 5*time.Second)
		_, err := session.ReceiveDatagram(limited)
		cancel()
		if err != nil {
			return nil, err
		}
		samples = append(samples, milliseconds(begin))
	}
	samples = samples[100:]
	return figures{
		"datagram_p50_ms": percentile(samples, 0.5), "datagram_p99_ms": percentile(samples, 0.99),
	}, nil
}

// SendDatagram waits for room, so nothing has to yield.
func (b bench) datagramRate() (figures, error) {
	session, err := b.begin()
	if err != nil {
		return nil, err
	}
	sent, refused := 0, 0
	length := time.Duration(setting("DATAGRAM_MS", 4_000)) * time.Millisecond
	start := time.Now()
	for time.Since(start) < length {
		if session.SendDatagram(datagram('s')) == nil {
			sent++
		} else {
			refused++
		}
	}
	elapsed := time.Since(start).Seconds()
	delivered, before := uint64(0), uint64(1)
	for delivered != before { // until nothing more arrives
		before = delivered
		time.Sleep(200 * time.Millisecond)
		if delivered, err = datagramCount(session); err != nil {
			return nil, err
		}
	}
	return figures{
		"datagrams_sent_s":    float64(sent) / elapsed,
		"datagrams_refused_s": float64(refused) / elapsed,
		"datagrams_s":         float64(delivered) / elapsed,
		"datagram_loss":       max(0, 1-float64(delivered)/float64(max(sent, 1))),
	}, nil
}

func (b bench) rrBesideUpload() (figures, error) {
	return b.beside("rr_upload", func(session *webtransport.Session, stop *atomic.Bool) error {
		stream, err := operation(session, 'U', 0)
		if err != nil {
			return err
		}
		for !stop.Load() {
			if err := write(stream, chunk); err != nil {
				return err
			}
		}
		stream.Close()
		_, err = io.ReadFull(stream, make([]byte, 8))
		return err
	})
}

func (b bench) rrBesideDatagrams() (figures, error) {
	return b.beside("rr_datagrams", func(session *webtransport.Session, stop *atomic.Bool) error {
		for !stop.Load() {
			session.SendDatagram(datagram('s'))
		}
		return nil
	})
}

// Requests for as long as the load is at its full rate.
func (b bench) beside(
	name string, load func(*webtransport.Session, *atomic.Bool) error,
) (figures, error) {
	session, err := b.begin()
	if err != nil {
		return nil, err
	}
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() { done <- load(session, &stop) }()
	time.Sleep(300 * time.Millisecond)
	samples, err := roundTrips(session)
	if err != nil {
		return nil, err
	}
	stop.Store(true)
	return figures{
		name + "_p50_ms": percentile(samples, 0.5), name + "_p99_ms": percentile(samples, 0.99),
	}, <-done
}

func (b bench) fanOut() (figures, error) {
	var streams []*webtransport.Stream
	var session *webtransport.Session
	var err error
	for range fanClients {
		if session, err = b.connect(); err != nil {
			return nil, err
		}
		stream, err := operation(session, 'S', 0)
		if err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
			return nil, err
		}
		streams = append(streams, stream)
	}
	rounds := setting("FAN", 2_000)
	start := time.Now()
	stream, err := operation(session, 'F', uint64(rounds))
	if err != nil {
		return nil, err
	}
	stream.Close()
	err = together(fanClients, func(index int) error {
		return expect(64 * rounds)(count(streams[index]))
	})
	return figures{"fan_out_s": float64(fanClients*rounds) / time.Since(start).Seconds()}, err
}

func (b bench) idle() (figures, error) {
	for range 20 {
		if _, err := b.connect(); err != nil {
			return nil, err
		}
	}
	before, err := residentKB(b.server)
	if err != nil {
		return nil, err
	}
	idle := setting("IDLE", 500)
	for range idle {
		if _, err := b.connect(); err != nil {
			return nil, err
		}
	}
	time.Sleep(time.Second) // let handshake buffers go
	after, err := residentKB(b.server)
	return figures{"idle_KB": (after - before) / float64(idle)}, err
}

func residentKB(pid string) (float64, error) {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	return strconv.ParseFloat(strings.Fields(rest)[0], 64)
}
