-- Requests in flight; see permits.py.

local STARVED_S = 1

function pool.give_permits(step, line, item)
  local memory = pool.memory
  local min = math.min
  if step.most <= 0 then return -1 end
  local now_s, caller = step.now_s, line.caller
  local wanted, held = min(item[PERMITS_WANTED], step.most), caller[PERMITS]
  local free = step.most - (memory[PERMITS_OUT] - held)
  local share = pool.fair_permits(step, line)
  local given = min(wanted, free)
  if given < wanted and given < share then
    memory[STARVED_AT] = now_s
  elseif now_s - memory[STARVED_AT] < STARVED_S then
    given = min(given, share)
  end
  given = math.max(item[ROWS_IN_FLIGHT], given, 0)
  memory[PERMITS_OUT] = memory[PERMITS_OUT] + (given - held)
  caller[PERMITS] = given
  if given > 0 and held == 0 then
    pool.look_again(HOLDERS, line.key, now_s + HEARTBEAT_S)
  elseif given == 0 and held > 0 then
    pool.look_at(HOLDERS, line.key, false)
  end
  return math.floor(given)
end

-- What few calls need is made when it is needed.
function pool.rare_in_permits()
  function pool.fair_permits(step, line)
    local max = math.max
    local lane, user, job = line.lane, line.user, line.job
    local users = pool.memory[lane + W] + (user[ACTIVE] ~= 0 and 0 or user[WEIGHT])
    local jobs = user[W] + (job[ACTIVE] ~= 0 and 0 or job[WEIGHT])
    local callers = job[CALLERS] + (line.caller[AT_WORK] ~= 0 and 0 or 1)
    local part = pool.lane_share(lane) * (user[WEIGHT] / users) * (job[WEIGHT] / jobs) / max(1, callers)
    return max(1, math.floor(step.most * part + 1e-9))
  end
end
