-- Who comes first; see fair_share.py for what it does and why. A parent is a list and the place before its record: a
-- user's own record and 0, or `memory` and the place before its lane.

local LIVE_WEIGHT = 64
local HIGH_WEIGHT = 16
local NORMAL_WEIGHT = 4
local LOW_WEIGHT = 1
local LEAST_LANE_SHARE = 0.05
local LEAST_QUANTUM_S = 0.02
local CREDIT_S = 1
local CREDIT_QUANTA = 4
local ABSENT_AT_ONCE = 16
local LOOK_EVERY_S = 0.5
local NEUTRAL = 0.5
local FLOW_FADE_S = 5
local SILENT_S = 3
local HEARTBEAT_S = 10
local REMEMBERED_S = 600
local SHORTEST_SLICE_S = 0.0005

-- The records of all items, read in one go; the weights of their users, if a person set any.
function pool.load_lineages(items)
  pool.load_records(ARGV, 3)
  return pool.memory[WEIGHTED] > 0 and #items > 0 and pool.load_weights(items)
end

-- `weight`: its user's, if a person set one.
function pool.lineage(step, item, weight)
  local records, user_at, job_at, key = pool.records, ARGV[item[USER_AT]], ARGV[item[JOB_AT]], ARGV[item[CALLER_AT]]
  local user, job, caller = records[user_at], records[job_at], records[key]
  if not user then
    user = { 0, 0, 0, 0, 1, 0 }
    records[user_at] = user
  end
  if not job then
    job = { 0, 0, 0, step.now_s, 1, 0 }
    records[job_at] = job
  end
  if not caller then
    caller = { 0, step.now_s, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
    records[key] = caller
    pool.look_again(KNOWN, key, step.now_s + REMEMBERED_S)
  end
  local lane = LANES + 4 * item[LANE]
  weight = weight and tonumber(weight) or 1
  if user[ACTIVE] > 0 and weight ~= user[WEIGHT] then
    local memory = pool.memory
    memory[lane + W] = memory[lane + W] + (weight - user[WEIGHT])
    memory[lane + M] = memory[lane + M] + (weight - user[WEIGHT]) * user[S]
  end
  user[WEIGHT] = weight
  if job[ACTIVE] == 0 then job[WEIGHT] = item[JOB_WEIGHT] end
  local unseen_s = step.now_s - caller[SEEN]
  caller[SEEN] = step.now_s
  return {
    lane = lane, user = user, job = job, caller = caller, key = key, is_live = item[LANE] == 0, unseen_s = unseen_s,
    is_short = false,
  }
end

function pool.lane_share(lane)
  local memory = pool.memory
  local others = memory[LANES + W] + memory[LANES + 4 + W] + memory[LANES + 8 + W] + memory[LANES + 12 + W]
  if others == memory[lane + W] then return 1 end -- it is alone
  local live, high, normal, low = pool.lane_shares(lane)
  if lane == LANES then return live end
  if lane == LANES + 4 then return high end
  return lane == LANES + 8 and normal or low
end

function pool.take_part(step, line, first_s)
  local user, job = line.user, line.job
  if line.caller[AT_WORK] == 0 then
    pool.look_again(BACKLOGGED, line.key, step.now_s + SILENT_S)
    line.caller[AT_WORK] = 1
    job[CALLERS] = job[CALLERS] + 1
  end
  if user[ACTIVE] ~= 0 and job[ACTIVE] ~= 0 then return end
  pool.join_lane(line.lane, first_s)
  pool.join_parent(user, pool.memory, line.lane, math.max(LEAST_QUANTUM_S, first_s / user[WEIGHT]))
  pool.join_parent(job, user, 0, math.max(LEAST_QUANTUM_S, first_s / job[WEIGHT]))
end

function pool.lag_of(mean, own, quantum)
  local behind = (mean + quantum - own) / (2 * quantum)
  if behind <= 0 then return 0 end
  return behind < 1 and behind or 1
end

function pool.member_lag(member, parent, at, quantum_s)
  if parent[at + W] <= member[WEIGHT] then return NEUTRAL end
  local own = quantum_s / member[WEIGHT]
  local mean = parent[at + M] / parent[at + W]
  local lowest = mean - CREDIT_S - CREDIT_QUANTA * own
  if member[S] < lowest then
    parent[at + M] = parent[at + M] + member[WEIGHT] * (lowest - member[S])
    member[S] = lowest
  end
  return pool.lag_of(mean, member[S], own)
end

-- The length of a caller's slice, and how far behind its share its lane, user and job are, 0 to 1.
function pool.lag(step, line, first_s)
  local memory = pool.memory
  local lane, user, job = line.lane, line.user, line.job
  local lane_part = pool.lane_share(lane)
  local share = lane_part * ((user[WEIGHT] / memory[lane + W]) * (job[WEIGHT] / user[W]))
  local slice_s = step.round_s * share / (job[CALLERS] > 1 and job[CALLERS] or 1)
  if slice_s < SHORTEST_SLICE_S then slice_s = SHORTEST_SLICE_S end
  local quantum_s, of_lane = slice_s > first_s and slice_s or first_s, NEUTRAL
  if lane_part < 1 then
    local mean, own = pool.lane_mean(pool.lane_shares(lane)), quantum_s / lane_part
    memory[lane + S] = math.max(memory[lane + S], mean - CREDIT_S - CREDIT_QUANTA * own)
    of_lane = pool.lag_of(mean, memory[lane + S], own)
  end
  return slice_s, of_lane, pool.member_lag(user, memory, lane, quantum_s), pool.member_lag(job, user, 0, quantum_s)
end

function pool.charge(step, line, seconds)
  local memory = pool.memory
  local lane, user, job = line.lane, line.user, line.job
  memory[lane + S] = memory[lane + S] + seconds / pool.lane_share(lane)
  user[S] = user[S] + seconds / user[WEIGHT]
  if user[ACTIVE] > 0 then memory[lane + M] = memory[lane + M] + seconds end
  job[S] = job[S] + seconds / job[WEIGHT]
  if job[ACTIVE] > 0 then user[M] = user[M] + seconds end
  local age_s, flow = step.now_s - job[FLOW_AT], job[FLOW]
  if age_s > 0 then flow = flow * pool.faded(age_s, FLOW_FADE_S) end
  flow = flow + seconds
  job[FLOW] = flow > 0 and flow or 0
  job[FLOW_AT] = step.now_s
end

function pool.faded(age_s, over_s)
  local part = over_s / (over_s + age_s / 8)
  part = part * part
  part = part * part
  return part * part
end

-- What few calls need is made when it is needed.
function pool.rare_in_fair_share()
  function pool.load_weights(items)
    local users = {}
    for i = 1, #items do users[i] = string.match(ARGV[items[i][USER_AT]], '^u%d\31(.*)$') end
    return redis.call('HMGET', KEYS[WEIGHTS], unpack(users))
  end

  -- See after this caller at that time; false: no more.
  function pool.look_at(set, key, at_s)
    pool.looks = pool.looks or {}
    pool.looks[set] = pool.looks[set] or { added = {}, gone = {} }
    local added, gone = pool.looks[set].added, pool.looks[set].gone
    if at_s then
      added[key] = at_s
    elseif added[key] then
      added[key] = nil -- it was not there before this call, or is among the gone
    else
      gone[key] = true
    end
  end

  function pool.look_again(set, key, at_s)
    local memory = pool.memory
    pool.look_at(set, key, at_s)
    memory[LOOK_S] = math.min(memory[LOOK_S], at_s)
  end

  -- Each lane's part of the pool among those with work and `also`; 0 for the others.
  function pool.lane_shares(also)
    local memory = pool.memory
    local live = (memory[LANES + W] > 0 or also == LANES) and LIVE_WEIGHT or 0
    local high = (memory[LANES + 4 + W] > 0 or also == LANES + 4) and HIGH_WEIGHT or 0
    local normal = (memory[LANES + 8 + W] > 0 or also == LANES + 8) and NORMAL_WEIGHT or 0
    local low = (memory[LANES + 12 + W] > 0 or also == LANES + 12) and LOW_WEIGHT or 0
    local total = live + high + normal + low
    local least, smalls, small = LEAST_LANE_SHARE * total, 0, 0
    if high > 0 and high < least then smalls, small = smalls + 1, small + high end
    if normal > 0 and normal < least then smalls, small = smalls + 1, small + normal end
    if low > 0 and low < least then smalls, small = smalls + 1, small + low end
    if smalls == 0 then return live / total, high / total, normal / total, low / total end
    local rest = (1 - LEAST_LANE_SHARE * smalls) / (total - small)
    high = (high > 0 and high < least) and LEAST_LANE_SHARE or high * rest
    normal = (normal > 0 and normal < least) and LEAST_LANE_SHARE or normal * rest
    low = (low > 0 and low < least) and LEAST_LANE_SHARE or low * rest
    return live * rest, high, normal, low
  end

  -- The weighted mean of the virtual times of the lanes with work, and how many there are.
  function pool.lane_mean(...)
    local memory = pool.memory
    local weight, mean, count = 0, 0, 0
    for n = 1, 4 do
      local lane = LANES + 4 * (n - 1)
      if memory[lane + W] > 0 then
        local share = select(n, ...)
        weight = weight + share
        mean = mean + share * memory[lane + S]
        count = count + 1
      end
    end
    return weight > 0 and mean / weight or 0, count
  end

  function pool.join_parent(member, parent, at, quantum_s)
    if member[ACTIVE] ~= 0 then return end
    local mean = parent[at + W] > 0 and parent[at + M] / parent[at + W] or parent[at + V]
    member[S] = math.max(member[S], mean - quantum_s)
    member[ACTIVE] = 1
    parent[at + W] = parent[at + W] + member[WEIGHT]
    parent[at + M] = parent[at + M] + member[WEIGHT] * member[S]
  end

  function pool.join_lane(lane, first_s)
    local memory = pool.memory
    local max = math.max
    if memory[lane + W] ~= 0 then return end
    local mean, others = pool.lane_mean(pool.lane_shares(lane))
    if others > 0 then
      memory[lane + S] = max(memory[lane + S], mean - max(LEAST_QUANTUM_S, first_s))
    else
      memory[lane + S] =
        max(memory[LANES + S], memory[LANES + 4 + S], memory[LANES + 8 + S], memory[LANES + 12 + S])
    end
  end

  function pool.part_from(member, parent, at)
    if member[ACTIVE] == 0 then return end
    if parent[at + W] > 0 then parent[at + V] = math.max(parent[at + V], parent[at + M] / parent[at + W]) end
    member[ACTIVE] = 0
    parent[at + W] = parent[at + W] - member[WEIGHT]
    parent[at + M] = parent[at + M] - member[WEIGHT] * member[S]
    if parent[at + W] < 1e-9 then parent[at + W], parent[at + M] = 0, 0 end
  end

  function pool.leave(line)
    local caller, job, user = line.caller, line.job, line.user
    caller[WAITING] = 0
    if caller[AT_WORK] == 0 then return end
    pool.look_at(BACKLOGGED, line.key, false)
    caller[AT_WORK] = 0
    job[CALLERS] = math.max(0, job[CALLERS] - 1)
    if job[CALLERS] == 0 then
      pool.part_from(job, user, 0)
      if user[W] == 0 then pool.part_from(user, pool.memory, line.lane) end
    end
  end

  function pool.forget_absent(step)
    local memory = pool.memory
    local huge = math.huge
    local now_s = step.now_s
    local function lines_due(set)
      local due, keys, lines = redis.call('ZRANGEBYSCORE', KEYS[set], '-inf', now_s, 'LIMIT', 0, ABSENT_AT_ONCE), {}, {}
      for i = 1, #due do
        local of_job, of_user, lane = string.match(due[i], '^c(((%d)\31.-)\31.-)\31')
        keys[3 * i - 2], keys[3 * i - 1], keys[3 * i] = 'u' .. of_user, 'j' .. of_job, due[i]
        lines[i] = { lane = LANES + 4 * tonumber(lane), key = due[i], user_at = keys[3 * i - 2], job_at = keys[3 * i - 1] }
      end
      pool.load_records(keys, 1)
      return lines
    end

    local function give_up(line)
      pool.leave(line)
      memory[MISSING] = memory[MISSING] - line.caller[MISSES]
      line.caller[MISSES] = 0
    end

    local function return_permits(line)
      if line.caller[PERMITS] > 0 then
        memory[PERMITS_OUT] = math.max(0, memory[PERMITS_OUT] - line.caller[PERMITS])
        line.caller[PERMITS] = 0
        pool.look_at(HOLDERS, line.key, false)
      end
    end

    local function drop(key)
      pool.forgotten = pool.forgotten or {}
      pool.forgotten[#pool.forgotten + 1] = key
      pool.records[key] = nil
    end

    local function forget(line)
      give_up(line)
      return_permits(line)
      pool.look_at(KNOWN, line.key, false)
      drop(line.key)
      if line.job[CALLERS] == 0 and line.job[FLOW_AT] <= line.caller[SEEN] then
        drop(line.job_at)
        if line.user[W] == 0 then drop(line.user_at) end
      end
    end

    local function look_through(set, after_s, act)
      local records = pool.records
      for _, line in ipairs(lines_due(set)) do
        records[line.user_at] = records[line.user_at] or { 0, 0, 0, 0, 1, 0 }
        records[line.job_at] = records[line.job_at] or { 0, 0, 0, 0, 1, 0 }
        records[line.key] = records[line.key] or { 0, NEVER_S, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
        line.user, line.job, line.caller = records[line.user_at], records[line.job_at], records[line.key]
        local still_until_s = line.caller[SEEN] + after_s
        if still_until_s > now_s then
          pool.look_at(set, line.key, still_until_s)
        else
          pool.look_at(set, line.key, false)
          act(line)
        end
      end
      if pool.looks then pool.save_looks() end
    end

    look_through(BACKLOGGED, SILENT_S, give_up)
    look_through(HOLDERS, HEARTBEAT_S, return_permits)
    look_through(KNOWN, REMEMBERED_S, forget)
    memory[LOOK_S] = huge
    for set = BACKLOGGED, KNOWN do
      local soonest = redis.call('ZRANGE', KEYS[set], 0, 0, 'WITHSCORES')[2]
      if soonest then memory[LOOK_S] = math.min(memory[LOOK_S], tonumber(soonest)) end
    end
    memory[LOOK_S] = math.max(memory[LOOK_S] == huge and now_s or memory[LOOK_S], now_s + LOOK_EVERY_S)
  end
end
