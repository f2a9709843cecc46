-- Writes as the other scripts do, so that a server that cannot be written is known before anything is sent.
redis.call('SET', KEYS[1], '1', 'PX', 1000)
return cmsgpack.pack(true)
