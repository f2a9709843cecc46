-- Requests in flight; see permits.py.

local PERMIT_CREDIT_S = 2
local WHOLE = 1e-9

function pool.give_permits(step, line, item)
  return step.most > 0 and pool.permits_for(step, line, item) or -1
end

-- What few calls need is made when it is needed.
function pool.rare_in_permits()
  function pool.permits_for(step, line, item)
    local memory, caller = pool.memory, line.caller
    local max, min = math.max, math.min
    local in_flight, wanted, held = item[ROWS_IN_FLIGHT], min(item[PERMITS_WANTED], step.most), caller[PERMITS]
    local entitled = pool.entitled(step, line)
    memory[MISSING] = memory[MISSING] - caller[MISSES]
    local free = step.most - (memory[PERMITS_OUT] - held)
    local spare = free - max(0, memory[MISSING])
    local given = max(0, min(wanted, free, max(entitled, spare)))
    caller[MISSES] = given < in_flight and given - in_flight or max(0, min(wanted, entitled) - given)
    memory[MISSING] = memory[MISSING] + caller[MISSES]
    line.is_short = item[PERMITS_WANTED] > given
    pool.hold(step, line, max(in_flight, given))
    return math.floor(given)
  end

  function pool.hold(step, line, permits)
    local memory, held = pool.memory, line.caller[PERMITS]
    memory[PERMITS_OUT] = memory[PERMITS_OUT] + (permits - held)
    line.caller[PERMITS] = permits
    if permits > 0 and held == 0 then
      pool.look_again(HOLDERS, line.key, step.now_s + HEARTBEAT_S)
    elseif permits == 0 and held > 0 then
      pool.look_at(HOLDERS, line.key, false)
    end
  end

  function pool.entitled(step, line)
    local caller, held = line.caller, line.caller[PERMITS]
    local share = step.most * pool.part_of_pool(line)
    local least = math.floor(share + WHOLE)
    if caller[AT_WORK] == 0 then caller[CREDIT] = 0 end
    local credit = caller[CREDIT] + (share - held) * line.unseen_s
    caller[CREDIT] = math.max(-PERMIT_CREDIT_S, math.min(PERMIT_CREDIT_S, credit))
    if caller[CREDIT] > (held > least and -PERMIT_CREDIT_S or 0) then return math.ceil(share - WHOLE) end
    return least
  end

  function pool.part_of_pool(line)
    local lane, user, job = line.lane, line.user, line.job
    local users = pool.memory[lane + W] + (user[ACTIVE] ~= 0 and 0 or user[WEIGHT])
    local jobs = user[W] + (job[ACTIVE] ~= 0 and 0 or job[WEIGHT])
    local callers = job[CALLERS] + (line.caller[AT_WORK] ~= 0 and 0 or 1)
    return pool.lane_share(line.lane) * (user[WEIGHT] / users) * (job[WEIGHT] / jobs) / math.max(1, callers)
  end
end
