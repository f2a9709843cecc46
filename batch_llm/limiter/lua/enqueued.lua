-- Tokens waiting in a pool's native batches: the same rules as InProcessEnqueued in enqueued.py.
-- KEYS[1]: batch -> tokens, when taken (microseconds). ARGV[1]: what to do, a test's clock or -1, the rest.
local FORGOTTEN_US = 259200000000

local request = cmsgpack.unpack(ARGV[1])
local what, now, batch, tokens, limit = request[1], request[2], request[3], request[4], request[5]
if now < 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local taken, kept, flat = 0, {}, redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local each = cmsgpack.unpack(flat[i + 1])
  if each[2] >= now - FORGOTTEN_US then
    taken = taken + each[1]
    kept[flat[i]] = each[1]
  elseif what ~= 'view' then
    redis.call('HDEL', KEYS[1], flat[i])
  end
end

local reply = taken
if what == 'take' then
  reply = kept[batch] ~= nil or taken + tokens <= limit
  if reply and not kept[batch] then
    redis.call('HSET', KEYS[1], batch, cmsgpack.pack({tokens, now}))
  end
elseif what == 'give_back' then
  reply = redis.call('HDEL', KEYS[1], batch) == 1
end
return cmsgpack.pack(reply)
