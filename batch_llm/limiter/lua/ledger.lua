-- The ledger of money, shared by all processes: the same rules as in_process_ledger.py, which explains them.
-- Belongs here: one call, the caps, a look at everything. Not here: when a call is made (budget.py).
--
-- KEYS, all with the tag {ledger}:
--   meta     epoch, the server's own name, when the epoch has settled (microseconds)
--   writers  writer -> run, user, reserve, seen, sequence, denied, cap, run_spent
--   users    user -> spent in total            days  "<day>", "<day>:<user>" -> spent
--   caps     "user:<user>", "user_day:<user>", "day" -> cap
--   lost     run -> charged for a dead writer, not yet found in the journals
--   run      e: epoch in which the journals were read, t: spent, s<number> -> spent, owner, told, at, offset
-- Amounts are nano-dollars, times microseconds: whole numbers below 2^53, exact in Lua.
local ALIVE_US = 30000000
local FORGOTTEN_US = 3600000000
local DAY_US = 86400000000
local KEPT_DAYS = 8
local FAIR_PART = 4
local RUN_KEPT_S = 604800 -- after a week the journals are read again

local META, WRITERS, USERS, DAYS, CAPS, LOST, RUN = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]

-- a writer's record and a slice's, by position
local W = {run = 1, user = 2, reserve = 3, seen = 4, sequence = 5, denied = 6, cap = 7, run_spent = 8}
local S = {spent = 1, owner = 2, told = 3, at = 4, offset = 5}
-- a call, by position: see LedgerCall.to_wire
local C = {writer = 1, sequence = 2, epoch = 3, run = 4, user = 5, cap = 6, held = 7, kept = 8, least = 9, want = 10,
  reports = 11, seed = 12, as_of = 13, closing = 14, alone = 15}

local function whole(value)
  return string.format('%.0f', value)
end

local function number_in(key, field)
  return tonumber(redis.call('HGET', key, field) or '0')
end

local function now_us(given)
  if given >= 0 then -- a test's clock
    return given
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A server that started anew or took over may have an older state than the writers know of.
local function server_name()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end

local function open_meta(now, settling_us)
  local packed = redis.call('GET', META)
  local server = server_name()
  local meta = packed and cmsgpack.unpack(packed)
  if not meta or meta[2] ~= server then
    meta = {meta and math.max(now, meta[1] + 1) or now, server, now + settling_us}
    redis.call('SET', META, cmsgpack.pack(meta))
  end
  return meta
end

-- Nobody else uses this server, so nobody holds money that it does not know of.
local function settle_now(given_now, settling_us)
  local now = now_us(given_now)
  local meta = open_meta(now, settling_us)
  meta[3] = math.min(meta[3], now)
  redis.call('SET', META, cmsgpack.pack(meta))
  return true
end

local function all_writers()
  local flat, writers = redis.call('HGETALL', WRITERS), {}
  for i = 1, #flat, 2 do
    writers[flat[i]] = cmsgpack.unpack(flat[i + 1])
  end
  return writers
end

-- what was spent ----------------------------------------------------------------------------------------------------

local function charge(user, amount, at)
  if amount <= 0 then
    return
  end
  local day = math.floor(at / DAY_US)
  local today = whole(day)
  if redis.call('HEXISTS', DAYS, today) == 0 then
    for _, field in ipairs(redis.call('HKEYS', DAYS)) do
      if tonumber(string.match(field, '^%d+')) <= day - KEPT_DAYS then
        redis.call('HDEL', DAYS, field)
      end
    end
  end
  redis.call('HINCRBY', USERS, user, whole(amount))
  redis.call('HINCRBY', DAYS, today, whole(amount))
  redis.call('HINCRBY', DAYS, today .. ':' .. user, whole(amount))
end

local function charge_new(call, amount, at)
  local lost = number_in(LOST, call[C.run])
  if lost > 0 and amount > 0 then
    local absorbed = math.min(lost, amount)
    amount = amount - absorbed
    redis.call('HSET', LOST, call[C.run], whole(lost - absorbed))
  end
  charge(call[C.user], amount, at)
end

local function lives(writer, call, now)
  local since = writer[W.run] == call[C.run] and call[C.alone] or 0
  return writer[W.seen] >= math.max(now - ALIVE_US, since)
end

local function forget(writers, now)
  for name, writer in pairs(writers) do
    if writer[W.seen] < now - FORGOTTEN_US then
      redis.call('HDEL', WRITERS, name)
      writers[name] = nil
      charge(writer[W.user], writer[W.reserve], writer[W.seen])
      redis.call('HINCRBY', LOST, writer[W.run], whole(writer[W.reserve]))
    end
  end
end

local function slice_of(number)
  local packed = redis.call('HGET', RUN, 's' .. whole(number))
  return packed and cmsgpack.unpack(packed)
end

local function keep_slice(number, slice, growth)
  redis.call('HSET', RUN, 's' .. whole(number), cmsgpack.pack(slice))
  if growth ~= 0 then
    redis.call('HINCRBY', RUN, 't', whole(growth))
  end
end

local function seed(call, writers, epoch)
  local as_of = call[C.as_of]
  for name, writer in pairs(writers) do
    if name ~= call[C.writer] and writer[W.run] == call[C.run] and not lives(writer, call, as_of) then
      redis.call('HDEL', WRITERS, name)
      writers[name] = nil
    end
  end
  if call[C.epoch] == epoch then
    redis.call('HSET', RUN, 'e', whole(epoch))
  end
  for _, pair in ipairs(call[C.seed]) do
    local number, spent = pair[1], pair[2]
    local slice = slice_of(number)
    if not slice then
      keep_slice(number, {spent, '', -1, 0, 0}, spent)
    elseif slice[S.owner] == '' or not (writers[slice[S.owner]] or slice[S.at] >= as_of) then
      if slice[S.told] >= 0 then
        charge_new(call, math.max(0, spent - slice[S.told]), as_of)
        slice[S.told] = math.max(slice[S.told], spent)
      end
      local growth = math.max(0, spent - slice[S.spent])
      slice[S.spent] = math.max(slice[S.spent], spent)
      keep_slice(number, slice, growth)
    end
  end
  local lost = number_in(LOST, call[C.run])
  if redis.call('HDEL', LOST, call[C.run]) == 1 and lost > 0 then
    redis.call('HINCRBY', USERS, call[C.user], whole(-lost))
  end
end

local function report(call, said, now)
  local number, base = said[1], said[2]
  local slice = slice_of(number) or {0, '', -1, 0, 0}
  if slice[S.owner] ~= '' and slice[S.owner] ~= call[C.writer] then
    slice[S.offset] = math.max(0, slice[S.spent] - base)
  end
  if slice[S.told] < 0 then
    slice[S.told] = base
  end
  local spent = said[3] + slice[S.offset]
  if slice[S.owner] == call[C.writer] and spent < slice[S.told] then
    redis.call('HINCRBY', USERS, call[C.user], whole(spent - slice[S.told]))
    slice[S.told] = spent
  end
  charge_new(call, math.max(0, spent - slice[S.told]), now)
  local told = math.max(slice[S.told], spent)
  keep_slice(number, {spent, call[C.writer], told, now, slice[S.offset]}, spent - slice[S.spent])
end

-- what is left ------------------------------------------------------------------------------------------------------

local function count(others, writer, alive)
  others.reserve = others.reserve + writer[W.reserve]
  if alive then
    others.alive_reserve = others.alive_reserve + writer[W.reserve]
    others.alive = others.alive + 1
  end
end

local function survey_of(call, writers, now)
  local function nobody()
    return {reserve = 0, alive_reserve = 0, alive = 0}
  end
  local survey = {run = nobody(), user = nobody(), everybody = nobody(), starved = false, reseed = false}
  for name, writer in pairs(writers) do
    if name ~= call[C.writer] then
      local alive = lives(writer, call, now)
      local same_run, same_user = writer[W.run] == call[C.run], writer[W.user] == call[C.user]
      count(survey.everybody, writer, alive)
      if same_user then
        count(survey.user, writer, alive)
      end
      if same_run then
        count(survey.run, writer, alive)
        survey.reseed = survey.reseed or not alive
      end
      local denied = writer[W.denied]
      local waits = (denied == 'run' and same_run) or (denied == 'user' and same_user)
        or (denied == 'user_day' and same_user) or denied == 'day'
      survey.starved = survey.starved or (alive and waits)
    end
  end
  return survey
end

local function scopes_of(call, survey, now)
  local scopes, user, today = {}, call[C.user], whole(math.floor(now / DAY_US))
  local function bind(kind, cap, spent, others)
    scopes[#scopes + 1] = {kind = kind, cap = cap, spent = spent, others = others}
  end
  if call[C.cap] >= 0 then
    bind('run', call[C.cap], number_in(RUN, 't'), survey.run)
  end
  local caps = redis.call('HMGET', CAPS, 'user:' .. user, 'user_day:' .. user, 'day')
  if caps[1] then
    bind('user', tonumber(caps[1]), number_in(USERS, user), survey.user)
  end
  if caps[2] then
    bind('user_day', tonumber(caps[2]), number_in(DAYS, today .. ':' .. user), survey.user)
  end
  if caps[3] then
    bind('day', tonumber(caps[3]), number_in(DAYS, today), survey.everybody)
  end
  return scopes
end

local function room(scope, reserve)
  return scope.cap - scope.spent - scope.others.reserve - reserve
end

local function denial_of(call, scopes, survey, reserve)
  local chosen, chosen_hope = nil, true
  for _, scope in ipairs(scopes) do
    if room(scope, reserve) < call[C.least] then
      local hope = scope.others.alive_reserve > 0 or survey.reseed
      local better = not chosen or (chosen_hope and not hope)
        or (chosen_hope == hope and room(scope, 0) < room(chosen, 0))
      if better then
        chosen, chosen_hope = scope, hope
      end
    end
  end
  if not chosen then
    return nil
  end
  return {chosen.kind, chosen.cap, chosen.spent, chosen.others.reserve + call[C.held], chosen_hope}
end

local function grant(call, scopes, survey, reserve)
  if #scopes == 0 then
    return reserve, false
  end
  local denial = call[C.least] > 0 and denial_of(call, scopes, survey, reserve)
  if denial then
    return call[C.held], denial
  end
  local welcome = survey.starved and 0 or call[C.want]
  for _, scope in ipairs(scopes) do
    welcome = math.min(welcome, math.floor(math.max(0, room(scope, reserve)) / (FAIR_PART * (scope.others.alive + 1))))
  end
  return reserve + math.max(call[C.least], welcome), false
end

-- one call ----------------------------------------------------------------------------------------------------------

local function is_known(call, epoch)
  return call[C.epoch] == epoch and (call[C.cap] < 0 or number_in(RUN, 'e') == epoch)
    and redis.call('HEXISTS', LOST, call[C.run]) == 0
end

local function keep_writer(call, reserve, denial, now)
  if call[C.closing] then
    redis.call('HDEL', WRITERS, call[C.writer])
    return
  end
  redis.call('HSET', WRITERS, call[C.writer], cmsgpack.pack({call[C.run], call[C.user], reserve, now,
    call[C.sequence], denial and denial[1] or '', call[C.cap], number_in(RUN, 't')}))
end

local function answer(call, given_now, settling_us)
  local now = now_us(given_now)
  local meta = open_meta(now, settling_us)
  local epoch = meta[1]
  local known = is_known(call, epoch)
  local writers = all_writers()
  local before = writers[call[C.writer]]
  if before and call[C.sequence] <= before[W.sequence] then
    return {epoch, known, now, before[W.reserve], number_in(RUN, 't'), false, false, false, false}
  end
  forget(writers, now)
  if call[C.as_of] > 0 then
    seed(call, writers, epoch)
    known = call[C.epoch] == epoch
  end
  for _, said in ipairs(call[C.reports]) do
    report(call, said, now)
  end
  local survey = survey_of(call, writers, now)
  local scopes = scopes_of(call, survey, now)
  local reserve = math.max(call[C.held], math.min(call[C.kept], before and before[W.reserve] or 0))
  local denial = false
  if known and now >= meta[3] then
    reserve, denial = grant(call, scopes, survey, reserve)
  elseif #scopes > 0 and call[C.least] > 0 then
    denial = {'', 0, 0, 0, true}
  end
  keep_writer(call, reserve, denial, now)
  redis.call('EXPIRE', RUN, RUN_KEPT_S)
  return {epoch, known, now, reserve, number_in(RUN, 't'), #scopes > 0, survey.starved, survey.reseed, denial}
end

local function set_caps(caps)
  for _, pair in ipairs(caps) do
    if pair[2] < 0 then
      redis.call('HDEL', CAPS, pair[1])
    else
      redis.call('HSET', CAPS, pair[1], whole(pair[2]))
    end
  end
  return true
end

local function view(given_now)
  local packed = {}
  for _, writer in pairs(all_writers()) do
    packed[#packed + 1] = writer
  end
  return {now_us(given_now), packed, redis.call('HGETALL', USERS), redis.call('HGETALL', DAYS),
    redis.call('HGETALL', CAPS)}
end

-- ARGV[1]: what to do, a test's clock or -1, and the rest
local request = cmsgpack.unpack(ARGV[1])
local reply
if request[1] == 'call' then
  reply = answer(request[4], request[2], request[3])
elseif request[1] == 'settle' then
  reply = settle_now(request[2], request[3])
elseif request[1] == 'caps' then
  reply = set_caps(request[4])
else
  reply = view(request[2])
end
return cmsgpack.pack(reply)
