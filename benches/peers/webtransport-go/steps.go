// What the workloads are made of.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/quic-go/webtransport-go"
)

func operation(
	session *webtransport.Session, name byte, argument uint64,
) (*webtransport.Stream, error) {
	stream, err := session.OpenStreamSync(background)
	if err != nil {
		return nil, err
	}
	_, err = stream.Write(binary.BigEndian.AppendUint64([]byte{name}, argument))
	return stream, err
}

func echo(session *webtransport.Session) error {
	stream, err := session.OpenStreamSync(background)
	if err != nil {
		return err
	}
	request := make([]byte, 9+64)
	request[0] = 'E'
	if _, err := stream.Write(request); err != nil {
		return err
	}
	stream.Close()
	return expect(64)(count(stream))
}

// The times of a thousand requests, or of eight seconds of them.
func roundTrips(session *webtransport.Session) ([]float64, error) {
	var samples []float64
	start := time.Now()
	for len(samples) < setting("REQUESTS", 1_000) && time.Since(start) < 8*time.Second {
		begin := time.Now()
		if err := echo(session); err != nil {
			return nil, err
		}
		samples = append(samples, milliseconds(begin))
	}
	return samples, nil
}

func upload(session *webtransport.Session, total int) error {
	stream, err := operation(session, 'U', 0)
	if err != nil {
		return err
	}
	if err := write(stream, total); err != nil {
		return err
	}
	stream.Close()
	received, err := number(stream)
	return expect(total)(int(received), err)
}

func download(session *webtransport.Session, total int) error {
	stream, err := operation(session, 'D', uint64(total))
	if err != nil {
		return err
	}
	stream.Close()
	return expect(total)(count(stream))
}

func datagramCount(session *webtransport.Session) (uint64, error) {
	stream, err := operation(session, 'C', 0)
	if err != nil {
		return 0, err
	}
	stream.Close()
	return number(stream)
}

func number(stream io.Reader) (uint64, error) {
	answer := make([]byte, 8)
	_, err := io.ReadFull(stream, answer)
	return binary.BigEndian.Uint64(answer), err
}

func datagram(kind byte) []byte {
	data := make([]byte, 64)
	data[0] = kind
	return data
}

func expect(wanted int) func(int, error) error {
	return func(got int, err error) error {
		if err == nil && got != wanted {
			err = fmt.Errorf("%d bytes and not %d", got, wanted)
		}
		return err
	}
}

// The same work so often at once; any error of it.
func together(times int, work func(int) error) error {
	results := make(chan error, times)
	for index := range times {
		go func() { results <- work(index) }()
	}
	var failed error
	for range times {
		if err := <-results; err != nil {
			failed = err
		}
	}
	return failed
}

func milliseconds(begin time.Time) float64 {
	return time.Since(begin).Seconds() * 1e3
}

func percentile(samples []float64, share float64) float64 {
	slices.Sort(samples)
	return samples[int(float64(len(samples))*share)]
}
