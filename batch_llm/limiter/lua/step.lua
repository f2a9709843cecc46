-- One call in the making; see step.py. Lists are in the order of the caller's rules.

local LIVE_MEMORY_S = 30

function pool.new_step(call, rules)
  return {
    rules = rules, count = call[RULE_COUNT], most = call[MOST], unknown = call[UNKNOWN] ~= 0, now_s = 0, wall_s = 0,
    elapsed_s = 0, round_s = 0, reclaim_s = 0, at_work = redis.call('ZCARD', KEYS[BACKLOGGED]),
    limits = { 0, 0, 0, 0, 0, 0 }, rates = { 0, 0, 0, 0, 0, 0 }, bursts = { 0, 0, 0, 0, 0, 0 },
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
