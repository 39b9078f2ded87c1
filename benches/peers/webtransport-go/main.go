// webtransport-go as a contender of the peers benchmark.
//
// `webtransport-go serve PORT CERT KEY` answers the operations of ../server.py;
// `webtransport-go client PORT SERVER_PID WORKLOAD` prints one JSON object of the figures that
// ../client.py has, by the same steps.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/quic-go/quic-go"
)

const chunk = 65_536

var background = context.Background()

// A number from the environment, as ../run.py sets them for all contenders.
func setting(name string, otherwise int) int {
	if number, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return number
	}
	return otherwise
}

// The module's own defaults, but for the streams that every contender allows.
func quicConfiguration() *quic.Config {
	streams := int64(setting("STREAMS", 200))
	return &quic.Config{
		EnableDatagrams:                  true,
		EnableStreamResetPartialDelivery: true,
		MaxIncomingStreams:               streams,
		MaxIncomingUniStreams:            streams,
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 5 {
		fail(fmt.Errorf("usage: webtransport-go serve PORT CERT KEY | client PORT PID WORKLOAD"))
	}
	port, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fail(err)
	}
	if os.Args[1] == "serve" {
		fail(serve(port, os.Args[3], os.Args[4]))
	}
	time.AfterFunc(120*time.Second, func() { fail(fmt.Errorf("not done after 120 s")) })
	figures, err := run(os.Args[4], port, os.Args[3])
	if err != nil {
		fail(err)
	}
	figures["version"] = "0.13.0"
	json.NewEncoder(os.Stdout).Encode(figures)
}
