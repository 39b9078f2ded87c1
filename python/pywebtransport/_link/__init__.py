"""What sessions, streams and datagrams know of the connection below them, and it of them."""
