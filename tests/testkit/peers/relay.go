// A relay of Go's crypto/tls, as many write one. relay PORT FILE: in a folder with server.crt, server.key and chain.crt.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log"
	"os"
	"sync"
)

func main() {
	certificate, err := tls.LoadX509KeyPair("server.crt", "server.key")
	check(err)
	chain, err := os.ReadFile("chain.crt")
	check(err)
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(chain)
	lines, err := os.OpenFile(os.Args[2], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	check(err)
	server, err := tls.Listen("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
	})
	check(err)
	var whole sync.Mutex
	for {
		peer, err := server.Accept()
		check(err)
		go func() {
			defer peer.Close()
			data, held := make([]byte, 1<<17), 0
			for {
				count, err := peer.Read(data[held:])
				held += count
				end := bytes.LastIndexByte(data[:held], '\n') + 1
				whole.Lock()
				_, failed := lines.Write(data[:end])
				whole.Unlock()
				check(failed)
				held = copy(data, data[end:held])
				if err != nil {
					log.Print(err)
					return
				}
			}
		}()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
