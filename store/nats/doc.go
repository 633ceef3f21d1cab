// Package nats keeps sessions in NATS JetStream.
package nats
