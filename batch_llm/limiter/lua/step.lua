-- One call in the making; see step.py. Lists are in the order of the caller's rules.

local LIVE_MEMORY_S = 30

function pool.new_step(rules, most, unknown)
  for n = 1, #rules do rules[n][PLACE] = rules[n][PLACE] + 1 end
  return {
    rules = rules, count = #rules, most = most, unknown = unknown, now_s = 0, wall_s = 0, elapsed_s = 0, round_s = 0,
    reclaim_s = 0,
    at_work = redis.call('ZCARD', KEYS[BACKLOGGED]), limits = {}, rates = {}, bursts = {},
  }
end

function pool.begin_days(step)
  local memory = pool.memory
  for n = 1, step.count do
    local rule = step.rules[n]
    if rule[KIND] == FIXED and pool.period_number(step, rule) > memory[PERIOD + rule[PLACE]] then
      memory[PERIOD + rule[PLACE]] = pool.period_number(step, rule)
      memory[TAT + rule[PLACE]] = 0
    end
  end
end

-- What few calls need is made when it is needed.
function pool.rare_in_step()
  function pool.period_number(step, rule)
    return math.floor((step.wall_s - rule[OFFSET_S]) / rule[PERIOD_S])
  end

  function pool.period_ends_in_s(step, rule)
    return (pool.period_number(step, rule) + 1) * rule[PERIOD_S] + rule[OFFSET_S] - step.wall_s
  end
end
