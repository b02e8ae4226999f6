-- Response side, errors only: makes the transcoder's google.rpc.Status JSON the error object of all our REST surfaces.
--
--     {"code":3,"message":"...","details":[...]}  ->  {"success":false,"code":3,"status":"INVALID_ARGUMENT","message":...}
--
-- Envoy's own errors have that shape from local_reply_config already. Bytes are spliced: the rest of the JSON stays as
-- the transcoder wrote and escaped it. Answers below 400, streams included, are not looked at.

local STATUS = {
  [0] = "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
  "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

-- The transcoder's Status, whose members come in the order code, message, details, and are left out when empty.
local function from_status(json)
  local code, rest = json:match('^{"code":(%d+)(.*)}$')
  if not code then return nil end
  if not rest:find('^,"message":') then rest = ',"message":""' .. rest end
  if rest:sub(-1) ~= "]" then rest = rest .. ',"details":[]' end
  local status = STATUS[tonumber(code)] or "UNKNOWN"
  return '{"success":false,"code":' .. code .. ',"status":"' .. status .. '"' .. rest .. "}"
end

-- What Envoy's transcoder and edge/strict.lua say of a body, as local_reply_config wrote it: a message that begins with a
-- field's path gets a BadRequest detail, and the two messages that show only where the parser stood get words.
local function from_local_reply(json)
  local head, message, tail = json:match('^(.-"message":")(.*)(","status":"INVALID_ARGUMENT","success":false}%s*)$')
  if not head then return nil end
  local what, near = message:match("^(.-)\\u?0?0?0?[an](.-)\\u?0?0?0?[an]%s*^$")
  if what then
    message = "the body is not valid JSON: " .. what .. (near ~= "" and " Near: " .. near or "")
  elseif message:find("^: Root element must be a message") then
    message = "the body must be a JSON object"
  end
  local field, description = message:match("^([%a_][%w_]*[%w_%.%[%]]*): (.+)$")
  if field then
    local detail = '{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"'
      .. field .. '","description":"' .. description .. '"}]},'
    head = head:gsub('"details":%[', function(found) return found .. detail end, 1)
  end
  return head .. message .. tail
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") < "400" or headers:get("content-type") ~= "application/json" then return end
  local body = handle:body()
  if not body then return end
  local json = body:getBytes(0, body:length())
  local is_local = json:find('"success":false}%s*$', -24)
  local better = is_local and from_local_reply(json) or not is_local and from_status(json)
  if not better then return end
  body:setBytes(better) -- sets content-length too
end
