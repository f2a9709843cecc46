-- Leases with a time to live: one holder alone, or many who share.
-- KEYS[1] the holders by the end of their time (ms), KEYS[2] the number of the last one who had it alone
-- ARGV: acquire | renew | release | advance | holders, member ("x" alone or "s" shared, ":", machine, ":", token),
--       time to live in ms, epoch
-- acquire: {1, epoch} or {0, a holder}; whoever acquires holds the local lock as well, so a member of its own machine
--          that would be in its way is dead. renew: 1, or 0 when the lease is lost.
local EPOCH_KEPT_MS = 7 * 86400 * 1000
local op, member, ttl_ms, epoch = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)

local function machine_of(one)
  return string.match(one, '^%a:([^:]*):')
end

local function in_the_way(drop_own)
  for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if other ~= member and (string.sub(member, 1, 1) == 'x' or string.sub(other, 1, 1) == 'x') then
      if not drop_own or machine_of(other) ~= machine_of(member) then
        return other
      end
      redis.call('ZREM', KEYS[1], other)
    end
  end
  return nil
end

local function hold()
  redis.call('ZADD', KEYS[1], now_ms + ttl_ms, member)
  redis.call('PEXPIRE', KEYS[1], 2 * ttl_ms)
end

if op == 'acquire' then
  local other = in_the_way(true)
  if other then
    return {0, other}
  end
  hold()
  local given
  if string.sub(member, 1, 1) == 'x' then
    given = redis.call('INCR', KEYS[2])
    redis.call('PEXPIRE', KEYS[2], EPOCH_KEPT_MS)
  else
    given = tonumber(redis.call('GET', KEYS[2]) or '0')
  end
  return {1, given}
elseif op == 'renew' then
  if not redis.call('ZSCORE', KEYS[1], member) then
    -- its time ran out, or Redis forgot: it is still the holder's unless somebody had it alone in between
    local last = redis.call('GET', KEYS[2])
    if in_the_way(false) or (last and tonumber(last) ~= epoch) then
      return 0
    end
    redis.call('SET', KEYS[2], epoch, 'PX', EPOCH_KEPT_MS)
  end
  hold()
  return 1
elseif op == 'advance' then
  if redis.call('ZSCORE', KEYS[1], member) and tonumber(redis.call('GET', KEYS[2]) or '0') < epoch then
    redis.call('SET', KEYS[2], epoch, 'PX', EPOCH_KEPT_MS)
  end
  return 1
elseif op == 'release' then
  return redis.call('ZREM', KEYS[1], member)
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
