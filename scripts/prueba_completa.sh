#!/usr/bin/env bash
# The whole network, for real: a Maestro and three peers on a copy of the sample configuration, every capability
# checked with curl and the CLI, a swarm, then the faults. Needs: node, curl. Ends with a table; exit 0 only if every
# step passed.
set -u
cd "$(dirname "$0")/.." || exit 1
ROOT=$PWD
WORK=$(mktemp -d)
CONFIG=$WORK/config
OUT=$WORK/out
MAESTRO=http://127.0.0.1:9000
P1=http://127.0.0.1:8000 P2=http://127.0.0.1:8001 P3=http://127.0.0.1:8002
STEPS=() FAILED=0
declare -A PIDS=()

# ---- the machinery ---------------------------------------------------------------------------------------------------

finish() {
  for part in "${!PIDS[@]}"; do kill "${PIDS[$part]}" 2>/dev/null; done
  for part in "${!PIDS[@]}"; do wait "${PIDS[$part]}" 2>/dev/null; done
  rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT TERM

chapter() { printf '\n\033[1m%s\033[0m\n' "$1"; CHAPTER=$1; }

# step NAME COMMAND…: runs it (a function or a program), notes whether it succeeded.
step() {
  local name=$1 begin end
  shift
  begin=$(date +%s%N)
  if "$@" >"$OUT" 2>&1; then result=ok; else
    result=FAILED
    FAILED=$((FAILED + 1))
  fi
  end=$(((($(date +%s%N) - begin)) / 1000000))
  printf '  %-6s %6d ms  %s\n' "$result" "$end" "$name"
  [ "$result" = ok ] || sed 's/^/         | /' "$OUT"
  STEPS+=("$(printf '%-6s | %-28s | %-66s | %6d' "$result" "$CHAPTER" "$name" "$end")")
}

# start PART [flags]: maestro, peer1, peer2 or peer3, in the background.
start() {
  local part=$1
  shift
  if [ "$part" = maestro ]; then
    node "$ROOT/dist/maestro/main.js" --config "$CONFIG/maestro.json" "$@" >"$WORK/$part.log" 2>&1 &
  else
    node "$ROOT/dist/peer/main.js" run --config "$CONFIG/$part.json" "$@" >"$WORK/$part.log" 2>&1 &
  fi
  PIDS[$part]=$!
}

# stop PART [SIGNAL]: waits for its end; polite stops must end with exit code 0.
stop() {
  local pid=${PIDS[$1]} signal=${2:-TERM}
  unset "PIDS[$1]"
  kill -s "$signal" "$pid"
  wait "$pid"
  local code=$?
  [ "$signal" = KILL ] || [ $code -eq 0 ]
}

peer() { node "$ROOT/dist/peer/main.js" "$@"; }

# json EXPRESSION: of the document d on standard input; fails where it is false, null or undefined, else prints it.
json() {
  node -e '
    const d = JSON.parse(require("fs").readFileSync(0, "utf8"))
    const value = new Function("d", `return (${process.argv[1]})`)(d)
    console.log(typeof value === "object" ? JSON.stringify(value) : String(value))
    process.exitCode = value === false || value == null ? 1 : 0' "$1" || { echo "not so: $1"; return 1; }
}

# until_true SECONDS COMMAND…: tries every 100 ms.
until_true() {
  local deadline=$(($(date +%s%N) + $1 * 1000000000))
  shift
  until "$@"; do
    [ "$(date +%s%N)" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

get() { curl -sS --max-time 10 "$@"; }
status_of() { curl -s -o "$WORK/body" -w '%{http_code}' --max-time 20 "$@"; }
# answers STATUS curl-arguments…
answers() {
  local expected=$1 actual
  shift
  actual=$(status_of "$@")
  echo "status $actual, expected $expected: $(head -c 500 "$WORK/body")"
  [ "$actual" = "$expected" ]
}
# exits CODE COMMAND…
exits() {
  local expected=$1
  shift
  "$@"
  local actual=$?
  echo "exit code $actual, expected $expected"
  [ $actual -eq "$expected" ]
}
says() { # says TEXT COMMAND…: its output, both streams, has the text
  local text=$1 output
  shift
  output=$("$@" 2>&1)
  echo "$output"
  grep -qF -- "$text" <<<"$output"
}

alive() { get "$1/healthz" 2>/dev/null | grep -q ok; }
registered() { get "$MAESTRO/peers" 2>/dev/null | json "d.peers.some(p => p.id === '$1')" >/dev/null 2>&1; }
not_registered() { get "$MAESTRO/peers" 2>/dev/null | json "!d.peers.some(p => p.id === '$1')" >/dev/null 2>&1; }
located() { get "$MAESTRO/locate?file=$1" | json "d.peers.length > 0" >/dev/null 2>&1; }
not_located() { get "$MAESTRO/locate?file=$1" | json "d.peers.length === 0" >/dev/null 2>&1; }

# ---- ready? ----------------------------------------------------------------------------------------------------------

[ -f dist/peer/main.js ] || npm run --silent build || exit 1
for port in 9000 8000 8001 8002 8003 8005 50051 50052 50053 50054 50056; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "port $port is in use: stop the network that runs there first" >&2
    exit 2
  fi
done
mkdir -p "$CONFIG"
cp config/*.json "$CONFIG/"
for i in 1 2 3; do
  mkdir -p "$CONFIG/peer$i/shared"
  cp "config/peer$i/shared/archivo$i.txt" "$CONFIG/peer$i/shared/"
done
SHARED1=$CONFIG/peer1/shared SHARED2=$CONFIG/peer2/shared SHARED3=$CONFIG/peer3/shared
ID2=$(sha256sum <"$SHARED2/archivo2.txt" | cut -d' ' -f1)

# ---- start -----------------------------------------------------------------------------------------------------------

chapter 'Start'
start maestro
step 'the Maestro answers' until_true 60 alive $MAESTRO
for i in 1 2 3; do start peer$i; done
# A port of the sample network may for a moment be the near end of somebody's connection: then it is tried again.
up() {
  alive "http://127.0.0.1:$((7999 + $1))" && return
  kill -0 "${PIDS[peer$1]}" 2>/dev/null || { grep -q 'is in use' "$WORK/peer$1.log" && start "peer$1"; }
  return 1
}
for i in 1 2 3; do step "P$i answers" until_true 60 up $i; done
for i in 1 2 3; do step "P$i is registered" until_true 60 registered P$i; done
for i in 1 2 3; do step "archivo$i.txt is in the directory" until_true 30 located archivo$i.txt; done

# ---- the Maestro, by curl --------------------------------------------------------------------------------------------

chapter 'Maestro by curl'
maestro_info() { get $MAESTRO/ | json "d.service === 'maestro' && d.status === 'ok' && d.peers === 3 && d.files === 3 && d.version"; }
step 'GET / tells service, peers and files' maestro_info
locate_name() { get "$MAESTRO/locate?file=archivo2.txt" | json "d.file === 'archivo2.txt' && d.peers.length === 1 && d.peers[0].peer === 'P2' && d.peers[0].grpc_port === 50052 && d.peers[0].id === '$ID2' && d.peers[0].rest"; }
step 'GET /locate?file= names the peer, its ports, content id and size' locate_name
locate_id() { get "$MAESTRO/locate?id=$ID2" | json "d.peers[0].peer === 'P2' && d.peers[0].file === 'archivo2.txt'"; }
step 'GET /locate?id= finds by content' locate_id
locate_none() { answers 200 "$MAESTRO/locate?file=nobody-has-this" && json "d.peers.length === 0" <"$WORK/body"; }
step 'GET /locate of an unknown file is an empty list, still 200' locate_none
directory() { get "$MAESTRO/directory?limit=2" | json "Object.keys(d.directory).join() === 'archivo1.txt,archivo2.txt' && d.next" && get "$MAESTRO/directory" | json "d.directory['archivo3.txt'][0].grpc_port === 50053"; }
step 'GET /directory lists names, in pages' directory
peers_list() { get "$MAESTRO/peers" | json "d.peers.length === 3 && d.peers.every(p => p.rest && p.grpc_port && p.files.length && p.status === 'alive' && p.last_seen)"; }
step 'GET /peers lists peers and their files' peers_list
search() { get "$MAESTRO/search?q=CHIVO2" | json "d.results[0].file === 'archivo2.txt'"; }
step 'GET /search finds part of a name, whatever its case' search
curl_peer() {
  answers 201 -d '{"peer":"http://127.0.0.1:7777","grpc_port":7778,"files":["canción de cuna.mp3"],"id":"hand"}' $MAESTRO/register &&
    get "$MAESTRO/search?q=cancion" | json "d.results[0].file === 'canción de cuna.mp3'" &&
    get --data-urlencode 'file=canción de cuna.mp3' -G "$MAESTRO/locate" | json "d.peers[0].id === null"
}
step 'POST /register of a bare name; found without its accent' curl_peer
step 'POST /heartbeat renews' answers 200 -d '{"id":"hand","revision":0}' $MAESTRO/heartbeat
step 'POST /heartbeat with another revision is 409' answers 409 -d '{"id":"hand","revision":7}' $MAESTRO/heartbeat
step 'POST /heartbeat of a stranger is 404' answers 404 -d '{"id":"stranger","revision":0}' $MAESTRO/heartbeat
patch_files() { answers 200 -X PATCH -d '{"from":0,"to":1,"add":["new.txt"],"remove":["canción de cuna.mp3"]}' $MAESTRO/peers/hand/files && located new.txt && get "$MAESTRO/search?q=cancion" | json "d.results.length === 0"; }
step 'PATCH /peers/{id}/files adds and removes' patch_files
step 'PATCH from a revision that is not held is 409' answers 409 -X PATCH -d '{"from":0,"to":1,"add":["x"]}' $MAESTRO/peers/hand/files
impostor() { answers 409 -d '{"peer":"http://127.0.0.1:6666","grpc_port":6667,"files":[],"id":"P1"}' $MAESTRO/register; }
step 'the identity of a live peer at another address is refused' impostor
step 'a metadata-service address is refused' answers 403 -d '{"peer":"http://169.254.169.254:80","grpc_port":1,"files":[]}' $MAESTRO/register
step 'malformed JSON is 400' answers 400 -d '{"peer":' $MAESTRO/register
step 'a hostile name is 400' answers 400 -d '{"peer":"http://127.0.0.1:7777","grpc_port":7778,"files":["../../etc/passwd"]}' $MAESTRO/register
withdraw() { answers 200 -X DELETE $MAESTRO/peers/hand && not_located new.txt; }
step 'DELETE /peers/{id} withdraws' withdraw
for base in $MAESTRO $P1; do
  step "$base: /openapi.json, /docs and /metrics" bash -c "curl -s $base/openapi.json | grep -q '\"openapi\":\"3.1.0\"' && curl -s $base/docs | grep -q swagger && curl -s $base/docs/swagger-ui-bundle.js | head -c 100 | grep -q . && curl -s $base/metrics | grep -q p2p_http_requests_total"
done

# ---- a peer, by curl -------------------------------------------------------------------------------------------------

chapter 'Peer by curl'
peer_info() { get $P1/info | json "d.id === 'P1' && d.grpc_port === 50051 && d.maestro === 'registered' && d.rest_url"; }
step 'GET /info' peer_info
peer_files() { get $P1/files | json "d.peer === 'P1' && d.files.join() === 'archivo1.txt'" && get "$P2/files?details=1" | json "d.files[0].id === '$ID2'"; }
step 'GET /files, names and details' peer_files
peer_bytes() { get $P2/files/archivo2.txt | cmp - "$SHARED2/archivo2.txt" && [ "$(get -r 0-6 $P2/files/archivo2.txt)" = Archivo ]; }
step 'GET /files/{name}: the bytes, and a range of them' peer_bytes
step 'ETag is the content id: 304 for one who has it' answers 304 -H "If-None-Match: \"$ID2\"" $P2/files/archivo2.txt
put_file() { echo hello >"$WORK/hello.txt" && answers 201 -T "$WORK/hello.txt" $P1/files/notes/hello.txt && until_true 30 located notes/hello.txt && get $P1/files/notes/hello.txt | grep -qx hello; }
step 'PUT /files/{name} with curl -T shares into a sub-folder' put_file
step 'PUT of the same content again is 200' answers 200 -T "$WORK/hello.txt" $P1/files/notes/hello.txt
echo other >"$WORK/other.txt"
step 'PUT of other content under the same name is 409' answers 409 -T "$WORK/other.txt" $P1/files/notes/hello.txt
peer_search() { get "$P1/search?file=archivo1.txt" | json "d.exists && d.peer === 'P1'" && get "$P1/search?file=archivo2.txt" | json "d.exists === false"; }
step 'GET /search asks this peer only' peer_search
peer_locate() { get "$P1/locate?file=archivo2.txt" | json "d.via === 'maestro' && d.peers[0].peer === 'P2'" && get "$P1/locate?file=archivo1.txt" | json "d.via === 'local'"; }
step 'GET /locate goes through the whole chain' peer_locate
step 'a path out of the folder is 400' answers 400 "$P1/files/%2e%2e%2f%2e%2e%2fmaestro.json"
symlink() { ln -s "$CONFIG/maestro.json" "$SHARED1/link.json" && get -X POST $P1/refresh >/dev/null && answers 404 $P1/files/link.json && rm "$SHARED1/link.json"; }
step 'a symbolic link out of the folder is not shared' symlink
step 'a foreign web page (Origin) is refused' answers 403 -H 'Origin: http://evil.example' -d '{}' $P1/transfers
step 'a rebound host name (Host) is refused' answers 403 -H 'Host: evil.example' $P1/transfers
friends_rest() { get $P1/friends | json "d.friends.map(f => f.role).join() === 'primary,backup'"; }
step 'GET /friends: primary and backup' friends_rest
watcher() {
  mkdir -p "$SHARED3/deep/er" && echo one >"$SHARED3/deep/er/one.txt" && until_true 30 located deep/er/one.txt &&
    mv "$SHARED3/deep/er/one.txt" "$SHARED3/deep/two.txt" && until_true 30 located deep/two.txt && until_true 30 not_located deep/er/one.txt &&
    rm -r "$SHARED3/deep" && until_true 30 not_located deep/two.txt
}
step 'files added, renamed and removed on disk are announced' watcher

# ---- gRPC ------------------------------------------------------------------------------------------------------------

chapter 'gRPC'
grpc() { node "$ROOT/dist/scripts/grpc_check.js" "$@"; }
step 'health and reflection answer' grpc 127.0.0.1:50052 services
step 'FileService.Download' grpc 127.0.0.1:50052 download archivo2.txt "$SHARED2/archivo2.txt"
step 'FileService.Download of an unknown file is ok=false' grpc 127.0.0.1:50052 refuse-download nothing.txt
step 'FileService.Upload' grpc 127.0.0.1:50053 upload from-grpc.txt 'sent by gRPC'
step 'FileService.Upload of ../x is ok=false' grpc 127.0.0.1:50053 refuse-upload ../x

# ---- CLI -------------------------------------------------------------------------------------------------------------

chapter 'CLI'
export P2P_AGENT=$P1
cli_json() { peer status --json | json "d.id === 'P1'" && peer list --json | json "JSON.stringify(d).includes('archivo1.txt')" && peer network --json | json "JSON.stringify(d).includes('archivo3.txt')"; }
step 'status, list and network, with --json' cli_json
step 'status and network for people' bash -c "node dist/peer/main.js status && node dist/peer/main.js network | grep -q archivo3.txt"
step 'search by part of a name' says archivo2.txt peer search CHIVO2
cli_locate() { says P2 peer locate archivo2.txt && says maestro peer locate archivo2.txt --explain && peer locate archivo2.txt --json | json "d.via === 'maestro'"; }
step 'locate, --explain and --json' cli_locate
step 'locate of nothing exits 3' exits 3 peer locate nobody-has-this
dummy() { says simulated peer download archivo3.txt --dummy && [ ! -e "$SHARED1/archivo3.txt" ]; }
step 'download --dummy simulates and writes nothing' dummy
download() { peer download archivo2.txt && cmp "$SHARED1/archivo2.txt" "$SHARED2/archivo2.txt" && until_true 30 bash -c "curl -s '$MAESTRO/locate?file=archivo2.txt' | grep -q '\"P1\"'"; }
step 'download lands in the shared folder and is offered onward' download
download_o() { peer download archivo3.txt -o "$WORK/mine.txt" && cmp "$WORK/mine.txt" "$SHARED3/archivo3.txt" && [ ! -e "$SHARED1/archivo3.txt" ]; }
step 'download -o lands there' download_o
download_id() { peer download "$ID2" -o "$WORK/by-id.txt" && cmp "$WORK/by-id.txt" "$SHARED2/archivo2.txt"; }
step 'download by content id' download_id
no_agent() { peer --agent http://127.0.0.1:1 download archivo3.txt --maestro $MAESTRO -o "$WORK/a" && peer --agent http://127.0.0.1:1 download archivo3.txt --peer $P3 -o "$WORK/b" && cmp "$WORK/a" "$WORK/b"; }
step 'download with no agent, by --maestro and by --peer' no_agent
head -c 64M /dev/urandom >"$SHARED3/big.bin"
big() { until_true 30 located big.bin && peer download big.bin && cmp "$SHARED1/big.bin" "$SHARED3/big.bin"; }
step 'download of 64 MiB' big
hash_cli() { [ "$(peer hash "$SHARED2/archivo2.txt" --json | json "JSON.stringify(d).includes('$ID2')")" = true ]; }
step 'hash prints the content id (sha256sum for a small file)' hash_cli
upload() { echo 'for all' >"$WORK/for-all.txt" && peer upload "$WORK/for-all.txt" && until_true 30 located for-all.txt; }
step 'upload shares a file here' upload
head -c 20M /dev/urandom >"$WORK/push.bin"
upload_dummy() { says simulated peer upload "$WORK/push.bin" --to P2 --dummy && [ ! -e "$SHARED2/push.bin" ]; }
step 'upload --to --dummy simulates and writes nothing' upload_dummy
upload_to() { peer upload "$WORK/push.bin" --to P2 && cmp "$WORK/push.bin" "$SHARED2/push.bin"; }
step 'upload --to pushes to another peer' upload_to
friends_cli() {
  cp "$CONFIG/peer1.json" "$CONFIG/peer4.json" && mkdir -p "$WORK/p4" &&
    start peer4 --id P4 --port 8003 --grpc-port 50054 --shared-dir "$WORK/p4" && until_true 60 alive http://127.0.0.1:8003 &&
    peer friends --json | json "JSON.stringify(d).includes('backup')" && peer add-peer http://127.0.0.1:8003 && says P4 peer friends &&
    peer remove-peer http://127.0.0.1:8003 && exits 2 peer add-peer $P1 && says P2 peer discover $P2 && stop peer4 && exits 4 peer add-peer http://127.0.0.1:8003
}
step 'friends, add-peer, remove-peer, discover' friends_cli
both_offer() { get "$MAESTRO/locate?file=$1" | json "d.peers.length === 2" >/dev/null 2>&1; }
ambiguous() {
  echo 'one content' >"$SHARED2/same-name.txt" && echo 'another content' >"$SHARED3/same-name.txt" &&
    until_true 30 both_offer same-name.txt &&
    exits 1 peer download same-name.txt && says "$(sha256sum <"$SHARED3/same-name.txt" | cut -c1-12)" peer download same-name.txt &&
    peer download "$(sha256sum <"$SHARED3/same-name.txt" | cut -c1-64)" -o "$WORK/picked" && cmp "$WORK/picked" "$SHARED3/same-name.txt"
}
step 'one name, two contents: choices are shown, the id picks' ambiguous
step 'an unreachable agent exits 4 and says what to do' exits 4 peer --agent http://127.0.0.1:1 status
step 'wrong usage exits 2' exits 2 peer download
step 'a bad configuration exits 2' exits 2 peer run --config "$CONFIG/none.json"
head -c 4M /dev/urandom >"$SHARED3/medium.bin"
crowd() {
  until_true 30 located medium.bin || return 1
  local pids=() i
  for i in $(seq 200); do curl -sf --max-time 60 -o "$WORK/crowd.$i" $P3/files/medium.bin & pids+=($!); done
  until_true 20 alive $P3 || return 1
  for i in "${pids[@]}"; do wait "$i" || return 1; done
  for i in $(seq 200); do cmp "$WORK/crowd.$i" "$SHARED3/medium.bin" || return 1; done
  rm -f "$WORK"/crowd.*
}
step '200 downloads at once from one agent, which answers meanwhile' crowd

# ---- a swarm ---------------------------------------------------------------------------------------------------------

# P1 gives slowly, so that all of this happens while the file is on its way; its limit is lifted at the end.
chapter 'A swarm'
# transfer_at URL NAME EXPRESSION: of the newest download of NAME there, as t
transfer_at() { get "$1/transfers" | json "(t => t && ($3))(d.transfers.find(t => t.file === '$2' && t.direction === 'download'))"; }
transfer_is() { transfer_at "$@" >/dev/null 2>&1; }
# becomes …: the same, within a minute; else tells how it stands
becomes() { until_true 60 transfer_is "$@" || { transfer_at "$1" "$2" t; return 1; }; }
# given URL: bytes that this peer has given of the swarm's file
given() { get "$1/uploads" | json "d.uploads.find(u => u.id === '$SWARM_ID')?.bytes ?? 0"; }
pushed() { get $P2/transfers | json "d.transfers.some(t => t.direction === 'push' && t.file === 'push.bin' && t.state === 'done')"; }
step 'what was pushed is among the transfers of the other side' pushed
head -c 96M /dev/urandom >"$SHARED1/swarm.bin"
upload_limit() {
  until_true 30 located swarm.bin && says '500 kB/s' peer limits set --upload 500KB/s &&
    get $P1/limits | json "d.now.upload === 500000 && d.set.join() === 'upload'"
}
step 'limits set --upload holds at once' upload_limit
SWARM_ID=$(get "$MAESTRO/locate?file=swarm.bin" | json "d.peers[0].id")
fetch_at_once() {
  peer --agent $P2 download swarm.bin --detach && peer --agent $P3 download swarm.bin --detach &&
    becomes $P2 swarm.bin "t.state === 'running' && t.bytes > 0" &&
    becomes $P3 swarm.bin "t.state === 'running' && t.bytes > 0"
}
step 'P2 and P3 fetch it at once' fetch_at_once
in_swarm() { get "$MAESTRO/swarms/$SWARM_ID" | json "['P2', 'P3'].every(id => d.peers.some(p => p.peer === id))"; }
swarm_lists() {
  until_true 30 in_swarm && get "$MAESTRO/swarms" | json "d.swarms.some(s => s.id === '$SWARM_ID' && s.peers === 2)" &&
    get "$P1/swarms/$SWARM_ID" | json "d.peers.map(p => p.peer).sort().join() === 'P1,P2,P3'"
}
step 'the Maestro and the provider know the swarm: GET /swarms' swarm_lists
gives_onward() { [ "$(given $P2)" -gt 0 ] && transfer_is $P3 swarm.bin "t.providers.some(p => p.peer === 'P2' && p.bytes > 0)"; }
step 'P2 gives to P3 what it has so far: GET /uploads' until_true 30 gives_onward
# What P1 gave is asked last, so that it is no smaller than at the moment of the others.
more_than_given() {
  local p2 p3
  p2=$(transfer_at $P2 swarm.bin t.bytes) && p3=$(transfer_at $P3 swarm.bin t.bytes) && [ $((p2 + p3)) -gt $(($(given $P1) * 13 / 10)) ]
}
step 'together they have a third more than P1 gave' until_true 30 more_than_given
all_events() { timeout 10 curl -sN $P3/transfers/events | grep -qm1 'event: transfer'; }
step 'GET /transfers/events tells of all transfers' all_events
# interrupted TEXT COMMAND…: Ctrl-C as soon as its output has the text
interrupted() {
  local text=$1 pid code
  shift
  "$@" >"$WORK/interrupted" 2>&1 &
  pid=$!
  until_true 30 grep -qF -- "$text" "$WORK/interrupted"
  kill -INT $pid
  wait $pid
  code=$?
  cat "$WORK/interrupted"
  grep -qF -- "$text" "$WORK/interrupted" && return $code
}
follow() { interrupted 'swarm.bin: running' node dist/peer/main.js --agent $P3 transfers --follow; }
step 'transfers --follow shows them until Ctrl-C, which is no failure' follow
join_and_pause() {
  exits 1 interrupted 'joined transfer' node dist/peer/main.js --agent $P2 download swarm.bin && grep -q 'paused at' "$WORK/interrupted" &&
    transfer_at $P2 swarm.bin "t.state === 'paused' && t.bytes > 0"
}
step 'a second download joins it; Ctrl-C pauses it, and says so' join_and_pause
resume_cli() {
  local number kept
  number=$(transfer_at $P2 swarm.bin t.transfer) && kept=$(transfer_at $P2 swarm.bin t.bytes) &&
    peer --agent $P2 transfers resume "$number" &&
    becomes $P2 swarm.bin "t.state === 'running' && t.bytes > $kept"
}
step 'transfers resume goes on with what it had' resume_cli
pause_cli() {
  local number
  number=$(transfer_at $P3 swarm.bin t.transfer) && says paused peer --agent $P3 transfers pause "$number" &&
    answers 409 -X POST "$P3/transfers/$number/pause" &&
    peer --agent $P3 transfers resume "$number" &&
    becomes $P3 swarm.bin "t.state === 'running'"
}
step 'transfers pause and resume; a paused one can not be paused' pause_cli
own_limit() {
  local number
  number=$(transfer_at $P3 swarm.bin t.transfer) && says '300 kB/s' peer --agent $P3 transfers limit "$number" 300KB/s &&
    transfer_at $P3 swarm.bin "t.limit === 300000" && peer --agent $P3 transfers limit "$number" none && transfer_at $P3 swarm.bin "t.limit === null ? 'none' : false"
}
step 'a transfer has a limit of its own, changed while it runs' own_limit
second_name() {
  local number
  number=$(transfer_at $P3 swarm.bin t.transfer) && peer --agent $P3 download swarm.bin --as second.bin --detach &&
    becomes $P3 second.bin "t.joined === '$number'"
}
step 'the same content under a second name joins the first fetch' second_name
NUMBER=$(transfer_at $P2 swarm.bin t.transfer) HAD=$(transfer_at $P2 swarm.bin t.bytes)
kill_taker() { [ "$HAD" -gt 0 ] && stop peer2 KILL && start peer2 && until_true 60 alive $P2; }
step 'P2 is killed (kill -9), and starts again' kill_taker
step 'its transfer goes on by itself, with all it had' becomes $P2 swarm.bin "t.transfer === '$NUMBER' && t.state === 'running' && t.resumed_bytes >= $HAD"
step 'the Maestro stops' stop maestro
lift() {
  says 'no limit' peer limits set --upload none &&
    becomes $P2 swarm.bin "t.state === 'done'" && becomes $P3 swarm.bin "t.state === 'done'" &&
    cmp "$SHARED2/swarm.bin" "$SHARED1/swarm.bin" && cmp "$SHARED3/swarm.bin" "$SHARED1/swarm.bin"
}
step 'the limit is lifted while they run: both are done at once' lift
second_there() { becomes $P3 second.bin "t.state === 'done'" && cmp "$SHARED3/second.bin" "$SHARED1/swarm.bin"; }
step '… and the second name is there' second_there
not_twice() { transfer_at $P3 swarm.bin "t.received <= t.size * 1.1" && transfer_at $P3 swarm.bin "t.providers.filter(p => p.bytes > 0).length > 1"; }
step '… from both, and next to nothing came twice' not_twice
maestro_back() { start maestro && until_true 60 alive $MAESTRO && until_true 60 registered P1; }
step 'the Maestro is back, and knows P1' maestro_back
mkdir -p "$SHARED1/lectures/week1" && head -c 600K /dev/urandom | split -a 4 -b 2048 - "$SHARED1/lectures/week1/" && head -c 3M /dev/urandom >"$SHARED1/lectures/film.mkv"
folder_listed() { get "$MAESTRO/directory?under=lectures&limit=1000" | json "Object.keys(d.directory).length === 301" >/dev/null 2>&1; }
folder() { until_true 30 folder_listed && says '301 files' peer --agent $P3 download lectures/ --explain && diff -r "$SHARED3/lectures" "$SHARED1/lectures"; }
step 'download of a folder: 300 small files and a large one' folder
folder_again() { says 'there already' peer --agent $P3 download lectures/; }
step '… again: all is there already' folder_again
limits_reset() { peer limits reset && get $P1/limits | json "d.set.length === 0 && d.now.upload === null"; }
step 'limits reset goes back to the configuration' limits_reset

# ---- events and mailboxes --------------------------------------------------------------------------------------------

chapter 'Events and mailboxes'
# told URL EXPRESSION [TYPE]: some event that it has heard of, as e, is so
told() { peer --agent "$1" events --last 5000 --type "${3:-*}" --json | json "d.events.some((e) => $2)" >/dev/null; }
step 'P3 has heard of a file of P1' until_true 20 told $P3 "e.type === 'file.added' && e.origin === 'P1' && e.data.name === 'swarm.bin'"
sse() { get "$MAESTRO/events?last=5000&follow=0&type=peer.*" | grep -q '^event: peer.registered' && get -o "$WORK/body" "$P1/events?last=5&follow=0" && grep -q '^data: {"v":1' "$WORK/body"; }
step 'GET /events of Maestro and agent (server-sent events)' sse
resumed() {
  local last
  last=$(get "$MAESTRO/events?last=2&follow=0" | sed -n 's/^id: //p' | tail -n 3 | head -n 1) &&
    [ "$(get -H "Last-Event-ID: $last" "$MAESTRO/events?follow=0" | grep -c '^data: ')" -lt 3 ] &&
    get -H 'Last-Event-ID: strange-1' "$MAESTRO/events?follow=0" | grep -q '^event: gap'
}
step '… resumed with Last-Event-ID; what can not be is told' resumed
follow_events() {
  node dist/peer/main.js --agent $P3 events --follow --type 'file.*' --json >"$WORK/followed" 2>&1 &
  local pid=$! code
  until_true 20 grep -q '"seq"' "$WORK/followed"
  echo news >"$SHARED1/news.txt"
  until_true 20 grep -q '"name":"news.txt"' "$WORK/followed"
  code=$?
  kill -INT $pid
  wait $pid && [ $code -eq 0 ]
}
step 'events --follow prints a new file of another peer; Ctrl-C is no failure' follow_events
renamed() { mv "$SHARED1/news.txt" "$SHARED1/old.txt" && until_true 20 told $P2 "e.type === 'file.renamed' && e.data.from === 'news.txt' && e.data.name === 'old.txt'"; }
step 'a file that gets another name is told as renamed' renamed
step 'a transfer is told with its end' until_true 20 told $P1 "e.type === 'transfer.completed' && e.origin === 'P2' && e.data.file === 'swarm.bin'"
step 'an event type that there is not is wrong usage' exits 2 peer events --type nonsense
post_event() {
  answers 403 -X POST "$MAESTRO/events" -d '{"events":[{"v":1,"id":"x.1","origin":"P1","seq":1,"time":"2026-01-01T00:00:00.000Z","type":"peer.expired","data":{"peer":"P2"}}]}' &&
    answers 404 -X POST "$MAESTRO/events" -d '{"events":[{"v":1,"id":"x.2","origin":"nobody","seq":1,"time":"2026-01-01T00:00:00.000Z","type":"file.removed","data":{"name":"a","revision":{"from":1,"to":1}}}]}' &&
    answers 400 -X POST "$MAESTRO/events" -d '{"events":[{"v":2}]}'
}
step 'forged, foreign and malformed events are refused' post_event
step 'AsyncAPI describes them' bash -c "curl -s $MAESTRO/asyncapi.json | grep -q '\"asyncapi\":\"3.0.0\"' && curl -s $P1/asyncapi.json | grep -q file.renamed"
mkdir -p "$SHARED1/course" && echo 'the first week' >"$SHARED1/course/week1.txt"
here() { cmp -s "$1" "$2"; }
followed_now() { until_true 20 located course/week1.txt && peer --agent $P2 follow 'course/**' && until_true 20 here "$SHARED2/course/week1.txt" "$SHARED1/course/week1.txt"; }
step 'follow fetches what is there already' followed_now
followed_then() { echo 'the second week' >"$SHARED1/course/week2.txt" && until_true 20 here "$SHARED2/course/week2.txt" "$SHARED1/course/week2.txt"; }
step '… and what comes' followed_then
quota() {
  head -c 3M /dev/urandom >"$SHARED1/big.iso" && peer --agent $P2 follow 'big.*' --quota 1MB && until_true 20 left_out && [ ! -e "$SHARED2/big.iso" ]
}
left_out() { peer --agent $P2 following --json | json "d.follows.some(f => f.pattern === 'big.*' && f.left_out.some(l => l.name === 'big.iso'))" >/dev/null; }
step 'a quota holds, and what is left out is told' quota
publish() { head -c 8M /dev/urandom >"$WORK/film" && peer --agent $P3 follow 'course/*' && peer publish "$WORK/film" --as course/film.mkv --wait 2 --timeout 60s --json | json "d.holders.sort().join() === 'P2,P3'" && here "$SHARED2/course/film.mkv" "$WORK/film" && here "$SHARED3/course/film.mkv" "$WORK/film"; }
step 'publish --wait 2 returns once P2 and P3 hold a verified copy' publish
step '… --wait for more than there are: exit code 1 when time is over' exits 1 peer publish course/film.mkv --wait 5 --timeout 2s
unfollow() { peer --agent $P2 unfollow 'big.*' && peer --agent $P2 unfollow 'course/**' && peer --agent $P3 unfollow 'course/*' && exits 3 peer --agent $P2 unfollow 'course/**'; }
step 'unfollow; what is not followed is not found' unfollow
step 'P3 stops politely' stop peer3
head -c 5M /dev/urandom >"$WORK/letter.bin"
sent_is() { peer mailbox --json | json "d.sent.some(o => o.peer === 'P3' && o.name === 'letter.bin' && o.state === '$1')" >/dev/null; }
away() { says away peer upload "$WORK/letter.bin" --to P3 && until_true 20 sent_is queued; }
step 'upload --to a peer that is away leaves an offer: queued' away
mail_kept() { stop maestro && start maestro && until_true 60 alive $MAESTRO && get "$MAESTRO/mailboxes/P3" | json "d.waiting === 1 && d.mail[0].name === 'letter.bin' && d.mail[0].content.length === 64"; }
step '… which the Maestro keeps over a restart; it holds the content id' mail_kept
delivered() { start peer3 && until_true 60 alive $P3 && until_true 60 sent_is delivered && here "$SHARED3/letter.bin" "$WORK/letter.bin"; }
step 'P3 is back and has it, verified; the sender sees: delivered' delivered
send_wait() { echo 'a note' >"$WORK/note.txt" && peer send "$WORK/note.txt" P2 P3 --wait 60s --json | json "d.offers.length === 2 && d.offers.every(o => o.state === 'delivered')" && here "$SHARED2/note.txt" "$WORK/note.txt"; }
step 'send --wait to two peers' send_wait
refused() { echo 'another note' >"$SHARED2/taken.txt" && echo 'mine' >"$WORK/taken.txt" && until_true 20 told $P1 "e.type === 'file.added' && e.data.name === 'taken.txt'" && exits 1 peer send "$WORK/taken.txt" P2 --wait 60s && peer mailbox --json | json "d.sent.some(o => o.name === 'taken.txt' && o.state === 'refused' && o.problem)"; }
step 'one whose name is taken there is refused, with the reason' refused

# ---- faults ----------------------------------------------------------------------------------------------------------

chapter 'Faults'
maestro_restart() { stop maestro && start maestro && until_true 60 alive $MAESTRO && located archivo1.txt && registered P3; }
step 'a restarted Maestro still has its directory' maestro_restart
echo 'only at P2' >"$SHARED2/only2.txt"
echo 'only at P3' >"$SHARED3/only3.txt"
step 'the new files are known' until_true 30 bash -c "curl -s '$MAESTRO/locate?file=only2.txt' | grep -q P2 && curl -s '$MAESTRO/locate?file=only3.txt' | grep -q P3"
step 'the Maestro stops' stop maestro
primary() { peer locate only2.txt --json | json "d.via === 'friends' && d.peers[0].peer === 'P2' && d.steps.some(s => s.strategy === 'maestro' && ['unreachable', 'skipped'].includes(s.outcome))"; }
step 'lookup by the primary friend' primary
step 'the user is told so' says 'does not answer' peer locate only2.txt
primary_download() { peer download only2.txt && cmp "$SHARED1/only2.txt" "$SHARED2/only2.txt"; }
step 'download by the primary friend' primary_download
step 'the primary friend is killed (kill -9)' stop peer2 KILL
backup() { peer locate only3.txt --json | json "d.via === 'friends' && d.peers[0].peer === 'P3'"; }
step 'lookup by the backup friend' backup
backup_download() { peer download only3.txt && cmp "$SHARED1/only3.txt" "$SHARED3/only3.txt"; }
step 'download by the backup friend' backup_download
fresh_maestro() { rm -f "$CONFIG"/.state/maestro.db* && start maestro && until_true 60 alive $MAESTRO; }
step 'the Maestro is back, its directory lost' fresh_maestro
step 'P1 is registered again within one heartbeat (5 s)' until_true 5 registered P1
step 'P3 is registered again within one heartbeat (5 s)' until_true 5 registered P3
start peer2
step 'P2 restarts and is registered' until_true 60 registered P2
step 'P2 is killed (kill -9)' stop peer2 KILL
step 'P2 vanishes from the directory after its lease (15 s)' until_true 17 not_registered P2

# ---- stop ------------------------------------------------------------------------------------------------------------

chapter 'Stop'
step 'P3 stops politely' stop peer3
step '… and has withdrawn at once' not_registered P3
step 'P1 stops politely' stop peer1
step 'the Maestro stops politely' stop maestro

# ---- no Maestro at all -----------------------------------------------------------------------------------------------

chapter 'No Maestro at all'
P4=http://127.0.0.1:8003
for i in 1 2 3 4; do
  mkdir -p "$CONFIG/free$i/shared"
  echo "a file that only P$i has" >"$CONFIG/free$i/shared/free$i.txt"
  friend=''
  case $i in 2 | 3) friend='"friend_peer_primary": "http://127.0.0.1:8000",' ;; esac
  cat >"$CONFIG/free$i.json" <<JSON
{ "id": "P$i", "ip": "127.0.0.1", "port": $((7999 + i)), "grpc_port": $((50050 + i)), "shared_dir": "free$i/shared",
  $friend "stabilize_ms": 2000, "state_dir": ".state/free$i" }
JSON
done
ring_has() { get "$1/ring" | json "d.successors.length === $2 && d.predecessor !== null && d.state === 'small'" >/dev/null; }
at_chord() { get "$1/locate?file=free$2.txt&via=chord" | json "d.via === 'chord' && d.peers.length === 1 && d.peers[0].peer === 'P$2'" >/dev/null; }
start free1
step 'P1 begins alone, and says so' until_true 60 says 'nobody answers' peer status
for i in 2 3 4; do start "free$i"; done
step 'P2, P3 and P4 answer' bash -c "for i in 1 2 3; do until curl -s http://127.0.0.1:800\$i/healthz | grep -q ok; do sleep 0.2; done; done"
discover_one() { peer --agent $P4 discover $P1 && peer --agent $P4 discover --json | json "d.peers.filter(p => p.status === 'alive').length >= 1"; }
step 'P4 knows nobody; it is told one address, and discovers the others' discover_one
for peer in $P1 $P2 $P3 $P4; do step "$peer: the three others follow it in the ring" until_true 30 ring_has "$peer" 3; done
for i in 2 3 4; do step "P1 finds free$i.txt by the ring" until_true 30 at_chord $P1 $i; done
ring_id() { get "$P4/locate?id=$(sha256sum <"$CONFIG/free2/shared/free2.txt" | cut -d' ' -f1)&via=chord" | json "d.peers[0].peer === 'P2' && d.peers[0].file === 'free2.txt'"; }
step 'P4 finds a content by its id, by the ring' ring_id
explained() { peer --agent $P4 locate free3.txt --explain | tee "$WORK/explained" && grep -q 'chord' "$WORK/explained" && grep -q 'no Maestro configured: using the ring' "$WORK/explained"; }
step 'locate --explain tells the way, and the level of the network' explained
flooded() { get "$P4/locate?file=free3.txt&via=flood" | json "d.via === 'flood' && d.peers[0].peer === 'P3' && d.steps[0].messages > 0"; }
step 'the neighbours find it too: locate --via flood' flooded
part_of_name() { peer --agent $P4 search ree3 --json | json "d.peers.some(p => p.peer === 'P3')"; }
step 'part of a name is found by the neighbours' part_of_name
free_download() { peer --agent $P4 download free3.txt && cmp "$CONFIG/free4/shared/free3.txt" "$CONFIG/free3/shared/free3.txt"; }
step 'what was found is downloaded, verified' free_download
step 'peer ring shows the circle' says 'P3' peer ring
step 'GET /metrics tells of the ring' bash -c "curl -s $P1/metrics | grep -q '^p2p_ring_members{.*} 4'"
step 'P3 is killed (kill -9)' stop free3 KILL
for peer in $P1 $P2 $P4; do step "$peer: the ring has closed behind it" until_true 30 ring_has "$peer" 2; done
step 'its file is found at P4, who has it by now' until_true 30 bash -c "curl -s '$P1/locate?file=free3.txt' | grep -q '\"peer\":\"P4\"'"
for i in 2 4; do step "P1 finds free$i.txt" at_chord $P1 $i; done
sed -i 's/8001/8005/; s/50052/50056/' "$CONFIG/free2.json"
move() { stop free2 && start free2 && until_true 60 alive http://127.0.0.1:8005; }
step 'P2 leaves politely, and comes back at another address' move
moved() { get "$P4/locate?file=free2.txt" | json "d.peers[0].rest === 'http://127.0.0.1:8005'" >/dev/null; }
step '… where its file is found' until_true 30 moved
step 'nobody has what nobody has: exit code 3' exits 3 peer locate nobody-has-this.txt
simulated() { peer simulate --peers 300 --kill 50% --lookups 1000 --json | json "d"; }
step 'peer simulate: 300 peers, half of them killed' simulated
for i in 1 2 4; do step "P$i stops politely" stop "free$i"; done

# ---- by a RabbitMQ ---------------------------------------------------------------------------------------------------

chapter 'Events by a RabbitMQ'
BROKER=${AMQP_URL:-amqp://guest:guest@127.0.0.1:5672}
PREFIX=prueba-$$
# What this network has at the broker is removed; its other networks stay as they are.
clean_broker() {
  node --input-type=module -e '
    import { Connection } from "rabbitmq-client"
    const [url, prefix, ...processes] = process.argv.slice(1)
    const broker = new Connection(url)
    broker.on("error", () => {})
    for (const one of processes)
      for (const kind of ["events", "mailbox"]) await broker.queueDelete(`${prefix}.${kind}.${one}`)
    await broker.queueDelete(`${prefix}.dead-letters`)
    for (const kind of ["events", "dead"]) await broker.exchangeDelete({ exchange: `${prefix}.${kind}` })
    await broker.close()' "$BROKER" "$PREFIX" P1 P2 maestro:maestro
}
broker_answers() {
  local address=${BROKER##*@}
  address=${address%%/*}
  (exec 3<>"/dev/tcp/${address%%:*}/${address##*:}") 2>/dev/null
}
if broker_answers; then
  BY_BROKER=(--events "$BROKER" --events-prefix "$PREFIX")
  SINCE=$(date -u +%Y-%m-%dT%H:%M:%S)
  echo 'a file that only P1 has' >"$SHARED1/broker1.txt"
  start maestro "${BY_BROKER[@]}"
  start peer2 "${BY_BROKER[@]}"
  by_broker() { peer --agent "$1" status --json | json "(d.events ?? d.info.events).kind === 'rabbitmq' && (d.events ?? d.info.events).state === 'connected'" >/dev/null; }
  # Who has never heard by this broker hears from then on: P2 is there first.
  step 'P2: its events go by the RabbitMQ' until_true 60 by_broker $P2
  start peer1 "${BY_BROKER[@]}"
  step 'P1: its events go by the RabbitMQ' until_true 60 by_broker $P1
  step 'P2 hears of a file of P1' until_true 30 told $P2 "e.type === 'file.added' && e.origin === 'P1' && e.data.name === 'broker1.txt'"
  step 'P2 hears of the lease of P1, from the Maestro' until_true 30 told $P2 "e.type === 'peer.registered' && e.data.peer === 'P1' && e.time > '$SINCE'"
  step 'the Maestro stops' stop maestro
  echo 'written while the Maestro was down' >"$SHARED1/meanwhile.txt"
  step 'P2 hears of a new file of P1 all the same' until_true 30 told $P2 "e.type === 'file.added' && e.data.name === 'meanwhile.txt'"
  caught_up() { start maestro "${BY_BROKER[@]}" && until_true 60 alive $MAESTRO && until_true 20 located meanwhile.txt; }
  step 'the Maestro is back, and catches up' caught_up
  step 'its mailboxes are not used then: it says so' answers 409 "$MAESTRO/mailboxes/P2"
  step 'P2 stops politely' stop peer2
  broker_offer() { head -c 2M /dev/urandom >"$WORK/parcel.bin" && peer send "$WORK/parcel.bin" P2 && until_true 30 bash -c "node dist/peer/main.js mailbox --json | grep -q queued"; }
  step 'an offer waits in its queue at the broker' broker_offer
  broker_delivered() { start peer2 "${BY_BROKER[@]}" && until_true 60 here "$SHARED2/parcel.bin" "$WORK/parcel.bin" && until_true 30 parcel_delivered; }
  parcel_delivered() { peer mailbox --json | json "d.sent.some(o => o.name === 'parcel.bin' && o.state === 'delivered')" >/dev/null; }
  step 'P2 is back and has it, verified; the sender sees: delivered' broker_delivered
  for i in 1 2; do step "P$i stops politely" stop peer$i; done
  step 'the Maestro stops politely' stop maestro
  step 'nothing of it is left at the broker' clean_broker
elif [ -n "${CI:-}" ]; then
  step "a RabbitMQ at $BROKER: start one with rabbitmq-server -detached, or set AMQP_URL" false
else
  echo "  skipped: no RabbitMQ; start one with rabbitmq-server -detached, or set AMQP_URL"
fi

printf '\n%-6s | %-28s | %-66s | %6s\n' result chapter step ms
printf -- '-------+------------------------------+--------------------------------------------------------------------+-------\n'
printf '%s\n' "${STEPS[@]}"
printf '\n%d passed, %d failed\n' $((${#STEPS[@]} - FAILED)) "$FAILED"
[ "$FAILED" -eq 0 ]
