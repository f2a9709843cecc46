-- Booking slices on the clocks of a pool, and settling what ended; see booking.py.

local AHEAD_S = 2
local DENIED = 0
local GRANTED = 1
local MET = 2
local BREATH_S = 0.0005
local ROUNDING_S = 1e-9
local PLAY_S = 0.1
local WINDOW_PLAY = 0.002
local ALL_FROM = 0.6
local SPARE = 0.5
local SPARE_ROWS = 2

function pool.settle(step, line, item)
  local memory = pool.memory
  local caller, some = line.caller, false
  for n = 1, step.count do
    some = some or item[6 * n + DONE] ~= 0 or item[6 * n + USED] ~= 0 or item[6 * n + UNUSED] ~= 0
  end
  if not some then return end
  local dominant_s, longest_s, mine = 0, 0, pool.tail == line.key
  for n = 1, step.count do
    local place, kind = step.rules[n][PLACE], step.rules[n][KIND]
    local held, back, returned = caller[OUT + place], item[6 * n + DONE], item[6 * n + UNUSED]
    if back > held then back = held end
    if returned > held - back then returned = held - back end
    caller[OUT + place] = held - back - returned
    local change = item[6 * n + USED] - back
    local flow = memory[FLOWS + place] + change - returned
    memory[FLOWS + place] = flow > 0 and flow or 0
    if kind == FIXED then
      local taken = memory[TAT + place] + change - returned
      memory[TAT + place] = taken > 0 and taken or 0
    else
      local rate = step.rates[n]
      local tat = memory[TAT + place] + change / rate
      if returned > 0 then tat = pool.give_back(step, n, tat, returned / rate, mine) end
      memory[TAT + place] = tat
      if kind == CLOCK then
        local seconds = (change - returned) / rate
        local length_s = seconds < 0 and -seconds or seconds
        if length_s > longest_s then dominant_s, longest_s = seconds, length_s end
      end
    end
  end
  if dominant_s ~= 0 then pool.charge(step, line, dominant_s) end
end

-- Seconds of the whole pool that the first row takes, and all rows; notes the largest row.
function pool.measure(step, item)
  local memory, rates = pool.memory, step.rates
  local first_s, all_s = 0, 0
  for n = 1, step.count do
    local rule, row = step.rules[n], item[6 * n + LARGEST_ROW]
    local largest = LARGEST + rule[PLACE]
    if row > memory[largest] then
      if memory[largest] > 0 and rule[PLACE] > 1 and row <= step.limits[n] * rule[WINDOW_S] then
        local tat = TAT + rule[PLACE]
        memory[tat] = math.max(step.now_s, memory[tat] + (row - memory[largest]) / rates[n])
      end
      memory[largest] = row
    end
    if rule[KIND] == CLOCK then
      local rate = rates[n]
      local of_first_s, of_all_s = item[6 * n + FIRST] / rate, item[6 * n + COST] / rate
      if of_first_s > first_s then first_s = of_first_s end
      if of_all_s > all_s then all_s = of_all_s end
    elseif rule[KIND] == ROLLING then
      pool.make_room(step, n, memory[largest])
    end
  end
  return first_s, all_s
end

-- How deep the schedule is booked, the dimension that is deepest, and how long a day's limit makes one wait.
function pool.depth_of(step, item, bursts)
  local depth_s, binding, day_wait_s = -1e9, -1, 0
  for n = 1, step.count do
    local rule = step.rules[n]
    if item[6 * n + COST] <= 0 then
      -- this dimension is not touched
    elseif rule[KIND] == FIXED then
      if pool.left_of(step, n) < item[6 * n + FIRST] and day_wait_s == 0 then
        day_wait_s, binding = math.max(BREATH_S, pool.period_ends_in_s(step, rule)), n - 1
      end
    elseif day_wait_s == 0 then
      local deep_s = pool.memory[TAT + rule[PLACE]] - bursts[n] - step.now_s
      if deep_s > depth_s then depth_s, binding = deep_s, n - 1 end
    end
  end
  return depth_s, binding, day_wait_s
end

function pool.part_of_demand(step, item, slice_s, all_s, bursts)
  local part, rows = 1, item[LISTED]
  if all_s > slice_s then part = slice_s / all_s end
  if part < ALL_FROM then
    local whole = math.floor(part * rows + 0.5)
    part = (whole > 1 and whole or 1) / rows
  else
    part = 1
  end
  for n = 1, step.count do
    local rule = step.rules[n]
    local cost = rule[KIND] == CLOCK and 0 or item[6 * n + COST]
    if cost > 0 then
      local left
      if rule[KIND] == FIXED then
        left = pool.left_of(step, n)
      else
        left = (step.now_s + step.round_s + bursts[n] - pool.memory[TAT + rule[PLACE]]) * step.rates[n]
      end
      if part > left / cost then part = left / cost end
    end
  end
  return part > 0 and part or 0
end

function pool.grant(step, line, item, suits_s, first_s, all_s, bursts)
  local memory = pool.memory
  local caller, now_s = line.caller, step.now_s
  local part = pool.part_of_demand(step, item, suits_s > first_s and suits_s or first_s, all_s, bursts)
  local met = part >= 1 - ROUNDING_S and item[MORE] == 0 and not line.is_short
  local reply, start_s, given_s = { met and MET or GRANTED, 0, -1, -1, suits_s, 0, 0, 0, 0 }, now_s, 0
  local one_row = part * item[LISTED] <= 1 + ROUNDING_S
  pool.tail = line.key
  for n = 1, step.count do
    local rule, cost, first = step.rules[n], item[6 * n + COST], item[6 * n + FIRST]
    local kind, tat = rule[KIND], memory[TAT + rule[PLACE]]
    local amount = cost * part
    if amount < first or one_row then amount = first end
    reply[2 * n + 5] = amount
    memory[TAIL_TAT + rule[PLACE]] = tat
    if kind ~= FIXED and cost > 0 and tat - bursts[n] > start_s then start_s = tat - bursts[n] end
    if kind == CLOCK and amount / step.rates[n] > given_s then given_s = amount / step.rates[n] end
  end
  for n = 1, step.count do
    local rule, amount = step.rules[n], reply[2 * n + 5]
    reply[2 * n + 4] = start_s
    if amount > 0 then
      local place, rate = rule[PLACE], step.rates[n]
      local tat = memory[TAT + place]
      memory[FLOWS + place] = memory[FLOWS + place] + amount
      if rule[KIND] == FIXED then
        memory[TAT + place] = tat + amount
      else
        local play_s = PLAY_S
        if rule[WINDOW_S] > 0 and WINDOW_PLAY * rule[WINDOW_S] < PLAY_S then play_s = WINDOW_PLAY * rule[WINDOW_S] end
        local begin_s = start_s - play_s
        if begin_s < tat then begin_s = tat end
        if begin_s < now_s then begin_s = now_s end
        if rule[KIND] == CLOCK then
          reply[2 * n + 4] = begin_s - bursts[n]
          if tat < start_s - play_s then
            local spare = (start_s + given_s - play_s - begin_s) * rate
            local more, rows = SPARE * amount, SPARE_ROWS * item[6 * n + FIRST]
            if rows > more then more = rows end
            if spare > amount + more then spare = amount + more end
            if spare > amount then amount = spare end
            reply[2 * n + 5] = amount
          end
        end
        memory[TAT + place] = begin_s + amount / rate
      end
      caller[OUT + place] = caller[OUT + place] + amount
    end
  end
  memory[ROWS] = memory[ROWS] + item[LISTED] * part
  memory[STRUCK_ROWS] = memory[STRUCK_ROWS] + item[LISTED] * part
  memory[QUIET_ROWS] = memory[QUIET_ROWS] + item[LISTED] * part
  pool.charge(step, line, given_s)
  if met then pool.leave(line) end
  return reply
end

function pool.denied(step, wait_s, binding)
  local reply = { DENIED, wait_s, binding, -1, 0, 0, 0, 0, 0 }
  for n = 10, 2 * step.count + 5 do reply[n] = 0 end
  return reply
end

function pool.book(step, line, item)
  local memory = pool.memory
  local now_s, caller = step.now_s, line.caller
  if item[LISTED] <= 0 and line.is_short then
    pool.take_part(step, line, 0)
  elseif item[LISTED] <= 0 then
    pool.leave(line) -- nobody of this caller waits
  end
  caller[WAITING], caller[IN_FLIGHT] = item[ROWS_WAITING], item[ROWS_IN_FLIGHT]
  if item[LISTED] <= 0 then return pool.denied(step, 0, -1) end
  if line.is_live then memory[LIVE_SEEN_S] = now_s end
  local first_s, all_s = pool.measure(step, item)
  pool.take_part(step, line, first_s)
  if now_s < memory[PAUSE_UNTIL_S] then return pool.denied(step, memory[PAUSE_UNTIL_S] - now_s, -1) end
  local slice_s, of_lane, of_user, of_job = pool.lag(step, line, first_s)
  local bursts = step.bursts
  if line.is_live or of_lane > NEUTRAL then
    bursts = {}
    for n = 1, step.count do bursts[n] = step.rules[n][BURST_S] end
  end
  local depth_s, binding, day_wait_s = pool.depth_of(step, item, bursts)
  if day_wait_s > 0 then return pool.denied(step, day_wait_s, binding) end
  local lane_part = of_lane < NEUTRAL and 2 * of_lane or 1
  local of_round = 0.5 + lane_part * of_user * (0.5 + 0.5 * of_job)
  local threshold_s = step.round_s * of_round
  if of_lane > NEUTRAL then threshold_s = threshold_s + step.reclaim_s * (of_lane - NEUTRAL) end
  if line.is_live and of_lane > 0 then threshold_s = 1.5 * step.round_s end
  if depth_s > threshold_s then return pool.denied(step, depth_s - threshold_s + BREATH_S, binding) end
  return pool.grant(step, line, item, slice_s * (0.6 + 1.4 * of_user * lane_part), first_s, all_s, bursts)
end

-- What few calls need is made when it is needed.
function pool.rare_in_booking()
  function pool.make_room(step, n, largest)
    local rule = step.rules[n]
    rule[BURST_S] = math.max(0, rule[PERIOD_S] - AHEAD_S - largest / step.rates[n])
    step.bursts[n] = rule[BURST_S]
  end

  function pool.give_back(step, n, tat, seconds, mine)
    local max, min = math.max, math.min
    if step.rules[n][KIND] ~= CLOCK then return tat - seconds end
    if mine then return max(tat - seconds, min(tat, pool.memory[TAIL_TAT + step.rules[n][PLACE]])) end
    return max(tat - min(seconds, step.bursts[n]), min(tat, step.now_s))
  end

  function pool.left_of(step, n)
    local rule = step.rules[n]
    return step.limits[n] * rule[PERIOD_S] - pool.memory[TAT + rule[PLACE]]
  end
end
