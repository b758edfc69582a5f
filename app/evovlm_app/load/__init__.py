"""What bounds the load on a server: a fair queue, sessions, uploads and open connections."""
