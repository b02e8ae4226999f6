-- Request side, ahead of the transcoder: what it would let pass silently is an error here.
--
-- The transcoder drops JSON members that the contract does not have, keeps the last of two members of one name, drops a
-- body that its method does not take, and answers a wrong method with 404. This filter answers 400 and 405 instead. The
-- contract is gen/lua/rest.lua, made from protos/. Values are judged by the transcoder, as is what is not JSON at all; only
-- a list or an object in the place of a plain value is caught here, because the transcoder would not name the field.

local rest = require("rest")

-- Bytes, because a captured character costs a string each time.
local QUOTE, BACKSLASH, COMMA = ('"'):byte(), ("\\"):byte(), (","):byte()
local OPEN_OBJECT, OPEN_LIST = ("{"):byte(), ("["):byte()

-- Position after the string whose opening quote stands before `at`; nil if it never ends. A quote ends it unless an odd
-- number of backslashes stands before.
local function after_string(text, at)
  while true do
    local quote = text:find('"', at, true)
    if not quote then return nil end
    local other = quote - 1
    while other >= at and text:byte(other) == BACKSLASH do other = other - 1 end
    if (quote - other) % 2 == 1 then return quote + 1 end
    at = quote + 1
  end
end

-- Position after the object or list whose opening bracket stands before `at`; nil if it never ends.
local function after_value(text, at)
  local depth = 1
  while depth > 0 do
    local found = text:find('["{}%[%]]', at)
    if not found then return nil end
    local mark = text:byte(found)
    at = found + 1
    if mark == QUOTE then
      at = after_string(text, at)
      if not at then return nil end
    elseif mark == OPEN_OBJECT or mark == OPEN_LIST then
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

-- What both spellings of a known field share: maxTokens and max_tokens are one field.
local one_name = {}
for _, fields in pairs(rest.messages) do
  for name in pairs(fields) do one_name[name] = name:gsub("_", ""):lower() end
end

local function names(fields)
  local known = {}
  for name in pairs(fields) do
    if not name:find("_", 1, true) then known[#known + 1] = name end
  end
  table.sort(known)
  return table.concat(known, ", ")
end

-- What the contract has in a member's place, for the innermost open object; or nil and what is wrong with its name.
local function member(frames, depth, key)
  local frame = frames[depth]
  frame.key = key
  local kind = frame.fields[key]
  if kind == nil then return nil, place(frames, depth) .. ": no such field; known here: " .. names(frame.fields) end
  frame.seen = frame.seen or {}
  if frame.seen[one_name[key]] then return nil, place(frames, depth) .. ": given twice" end
  frame.seen[one_name[key]] = true
  return kind
end

-- Opens a frame for an object or a list of messages of type `kind`; false where its inside is not to be looked at.
local function enter(frames, depth, mark, kind)
  if not rest.messages[kind] then return false end
  local above = frames[depth]
  if mark == OPEN_LIST and not (above and above.fields) then return false end
  local frame = frames[depth + 1] or {} -- frames are used again
  frames[depth + 1] = frame
  if mark == OPEN_LIST then
    frame.fields, frame.element, frame.index = nil, kind, 0
  else
    frame.fields, frame.element, frame.seen = rest.messages[kind], nil, nil
  end
  return true
end

-- What to say about the first member of `text` (JSON) that the message type `root` does not have, that comes twice, or that
-- is a list or an object where the contract has one plain value; nil if there is none.
local function find_fault(text, root)
  -- One frame for each open object (fields, seen, key) or list of messages (element, index).
  local frames, depth, at = {}, 0, 1
  -- What the contract has where the next value stands: a message by its name, false: one plain value, true: anything.
  local kind = root
  while at do
    local found = text:find('["{}%[%],]', at)
    if not found then return nil end
    local mark, frame, fault = text:byte(found), frames[depth], nil
    at = found + 1
    if mark == QUOTE then
      local after = after_string(text, at)
      local value = after and depth > 0 and frame.fields and text:match("^[ \t\r\n]*:()", after)
      if value then
        kind, fault = member(frames, depth, text:sub(at, after - 2))
        if fault then return fault end
      end
      at = value or after
    elseif mark == OPEN_OBJECT or mark == OPEN_LIST then
      if kind == false then
        return place(frames, depth) .. ": takes one plain value, not " .. (mark == OPEN_LIST and "a list" or "an object")
      elseif enter(frames, depth, mark, kind) then
        depth = depth + 1
      else
        at = after_value(text, at)
      end
    elseif mark == COMMA then
      if depth > 0 and frame.element then
        kind, frame.index = frame.element, frame.index + 1
      end
    else
      depth = depth - 1
      if depth < 1 then return nil end
    end
  end
end

-- The verbs of a path, each with its request message (true: a body that the server reads by itself, false: it takes no
-- body); nil if there is no such path.
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
  if message == true then return end
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
