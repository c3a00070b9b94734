"""Put good bytes back: plan first (pure), then apply, without ever making it worse."""
