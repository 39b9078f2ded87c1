"""The engines: QUIC and the protocol core behind one seam (:mod:`pywebtransport._engine.base`)."""
