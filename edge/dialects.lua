-- Response side of /v1/*, errors only: the error object of the API whose dialect is spoken there. The route's metadata
-- (`dialect`) says which one that is.
--
-- The server's own errors come ready to show (x-dragoman-ready), or, where the transcoder stands between, as gRPC statuses
-- that carry the body to show (x-dragoman-error, ASCII JSON) and, where gRPC has no code for it, the HTTP status
-- (x-dragoman-http-status). What Envoy says by itself is translated here.

local OPENAI = { -- by HTTP status: type, code
  [401] = {"invalid_request_error", "invalid_api_key"},
  [403] = {"permission_error", "permission_denied"},
  [404] = {"invalid_request_error", "unknown_url"},
  [405] = {"invalid_request_error", "method_not_supported"},
  [408] = {"invalid_request_error", "request_timeout"},
  [413] = {"invalid_request_error", "request_too_large"},
  [429] = {"rate_limit_error", "rate_limit_exceeded"},
  [503] = {"server_error", "unavailable"},
  [504] = {"server_error", "timeout"},
}

local ANTHROPIC = { -- by HTTP status: type
  [401] = "authentication_error",
  [403] = "permission_error",
  [404] = "not_found_error",
  [413] = "request_too_large",
  [429] = "rate_limit_error",
  [503] = "overloaded_error",
  [504] = "timeout_error",
}

local function openai(status, message)
  local known = OPENAI[status]
  local type = known and known[1] or status < 500 and "invalid_request_error" or "server_error"
  local code = known and ('"' .. known[2] .. '"') or "null"
  return '{"error":{"message":"' .. message .. '","type":"' .. type .. '","param":null,"code":' .. code .. "}}"
end

local function anthropic(status, message, request_id)
  local type = ANTHROPIC[status] or status < 500 and "invalid_request_error" or "api_error"
  local id = request_id and ('"' .. request_id .. '"') or "null"
  return '{"type":"error","error":{"type":"' .. type .. '","message":"' .. message .. '"},"request_id":' .. id .. "}"
end

-- The message in an error object of ours or of the transcoder, as it is escaped there.
local function message_of(json)
  local _, before = json:find('"message":"', 1, true)
  if not before then return nil end
  local at = before + 1
  while true do
    local quote = json:find('"', at, true)
    if not quote then return nil end
    local other = quote - 1
    while other > before and json:sub(other, other) == "\\" do other = other - 1 end
    if (quote - other) % 2 == 1 then return json:sub(before + 1, quote - 1) end
    at = quote + 1
  end
end

local KEPT = "dragoman.dialects"

function envoy_on_request(handle)
  local id = handle:headers():get("x-request-id")
  if id then handle:streamInfo():dynamicMetadata():set(KEPT, "request_id", id) end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local said, status = headers:get("x-dragoman-error"), headers:get("x-dragoman-http-status")
  if headers:get("x-dragoman-ready") then
    headers:remove("x-dragoman-ready")
    return
  end
  headers:remove("x-dragoman-error")
  headers:remove("x-dragoman-http-status")
  if headers:get(":status") < "400" then return end
  if status then headers:replace(":status", status) end
  headers:replace("content-type", "application/json")
  status = tonumber(headers:get(":status")) -- `headers` is not there any more once the body was waited for
  local body = handle:body(true)
  if not said then
    local message = message_of(body:getBytes(0, body:length())) or ""
    if handle:metadata():get("dialect") == "anthropic" then
      local kept = handle:streamInfo():dynamicMetadata():get(KEPT)
      said = anthropic(status, message, kept and kept.request_id)
    else
      said = openai(status, message)
    end
  end
  body:setBytes(said) -- sets content-length too
end
