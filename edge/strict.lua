-- Request side, ahead of the transcoder: what it would let pass silently is an error here.
--
-- The transcoder drops JSON members that the contract does not have, keeps the last of two members of one name, drops a
-- body that its method does not take, and answers a wrong method with 404. This filter answers 400 and 405 instead. The
-- contract is gen/lua/rest.lua, made from protos/. Values are judged by the transcoder, as is what is not JSON at all; only
-- a list or an object in the place of a plain value is caught here, because the transcoder would not name the field.

local rest = require("rest")

-- Position after the string whose opening quote stands before `at`; nil if it never ends. A quote ends it unless an odd
-- number of backslashes stands before.
local function after_string(text, at)
  while true do
    local quote = text:find('"', at, true)
    if not quote then return nil end
    local other = quote - 1
    while other >= at and text:byte(other) == 92 do other = other - 1 end
    if (quote - other) % 2 == 1 then return quote + 1 end
    at = quote + 1
  end
end

-- Position after the object or list whose opening bracket stands before `at`; nil if it never ends.
local function after_value(text, at)
  local depth = 1
  while depth > 0 do
    local found, _, mark = text:find('(["{}%[%]])', at)
    if not found then return nil end
    at = found + 1
    if mark == '"' then
      at = after_string(text, at)
      if not at then return nil end
    elseif mark == "{" or mark == "[" then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
  return at
end

-- Where the open objects and lists lead to, e.g. messages[1].toolCalls.
local function place(frames, depth)
  local path = ""
  for i = 1, depth do
    local frame = frames[i]
    if frame.fields then
      path = path .. (path == "" and "" or ".") .. frame.key
    else
      path = path .. "[" .. frame.index .. "]"
    end
  end
  return path
end

local function names(fields)
  local known = {}
  for name in pairs(fields) do
    if not name:find("_", 1, true) then known[#known + 1] = name end
  end
  table.sort(known)
  return table.concat(known, ", ")
end

-- What to say about the first member of `text` (JSON) that the message type `root` does not have, that comes twice, or that
-- is a list or an object where the contract has one plain value; nil if there is none.
local function find_fault(text, root)
  -- One frame for each open object (fields, seen, key) or list of messages (element, index); frames are used again.
  local frames, depth = {}, 0
  -- What the contract has where the next value stands: a message by its name, false: one plain value, true: anything.
  local expected = root
  local at = 1
  while true do
    local found, _, mark = text:find('(["{}%[%],])', at)
    if not found then return nil end
    at = found + 1
    local frame = frames[depth]
    if mark == '"' then
      local after = after_string(text, at)
      if not after then return nil end
      local value = frame and frame.fields and text:match("^[ \t\r\n]*:()", after)
      if value then
        local key = text:sub(at, after - 2)
        frame.key = key
        expected = frame.fields[key]
        if expected == nil then
          return place(frames, depth) .. ": no such field; known here: " .. names(frame.fields)
        end
        local field = key:gsub("_", ""):lower() -- maxTokens and max_tokens are one field
        frame.seen = frame.seen or {}
        if frame.seen[field] then return place(frames, depth) .. ": given twice" end
        frame.seen[field] = true
        after = value
      end
      at = after
    elseif expected == false and (mark == "{" or mark == "[") then
      return place(frames, depth) .. ": takes one plain value, not " .. (mark == "{" and "an object" or "a list")
    elseif mark == "{" then
      local fields = type(expected) == "string" and rest.messages[expected]
      if fields then
        depth = depth + 1
        frames[depth] = frames[depth] or {}
        frames[depth].fields, frames[depth].seen, frames[depth].element = fields, nil, nil
      else
        at = after_value(text, at)
        if not at then return nil end
      end
    elseif mark == "[" then
      if type(expected) == "string" and depth > 0 and frame.fields then
        depth = depth + 1
        frames[depth] = frames[depth] or {}
        frames[depth].element, frames[depth].index, frames[depth].fields = expected, 0, nil
      else
        at = after_value(text, at)
        if not at then return nil end
      end
    elseif mark == "," then
      if frame and frame.element then
        frame.index = frame.index + 1
        expected = frame.element
      end
    else
      depth = depth - 1
      if depth < 1 then return nil end
    end
  end
end

-- The verbs of a path, each with its request message (false: it takes no body); nil if there is no such path.
local function verbs_of(path)
  if #path > 1 and path:sub(-1) == "/" then path = path:sub(1, -2) end
  if rest.paths[path] then return rest.paths[path] end
  for _, template in ipairs(rest.templates) do
    if path:find(template[1]) then return template[2] end
  end
end

local function allowed(verbs)
  local list = {}
  for verb in pairs(verbs) do list[#list + 1] = verb end
  table.sort(list)
  return table.concat(list, ", ")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local verb = headers:get(":method")
  local verbs = verbs_of(headers:get(":path"):match("^[^?]*"))
  if not verbs then return end -- the transcoder answers 404
  local message = verbs[verb]
  if message == nil then
    local list = allowed(verbs)
    handle:respond({[":status"] = "405", ["allow"] = list}, verb .. " is not allowed here; allowed: " .. list)
    return
  end
  local body = handle:body()
  if not body then return end
  local text = body:getBytes(0, body:length())
  local fault
  if message then
    fault = find_fault(text, message)
  elseif not text:find("^%s*$") and not text:find("^%s*{%s*}%s*$") then
    fault = "this call takes no body"
  end
  if fault then handle:respond({[":status"] = "400"}, fault) end
end
