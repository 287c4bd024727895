import { execFile } from 'node:child_process'
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { z } from 'zod'
import type { NetworkEvent } from '../common/events/event.ts'
import { projectFile } from '../common/project.ts'
import { RestClient } from '../common/rest-client.ts'
import { LeaseSchema, TransfersResponse } from '../common/schemas.ts'
import { AgentClient } from './agent-client.ts'
import { makeFile } from './content.ts'
import { ShapedNetwork } from './hosts.ts'
import { Child, LOOPBACK, type Running, scratch, startMaestro, startPeer, until } from './process.ts'
import { type Measurement, median, say } from './report.ts'

/** What events take from one end to the other: real processes, as users run them. */

const MAESTRO_PORT = 19_310
const FIRST_PORT = 19_311
const READERS = 100
const RATE = 2000
const SECONDS = 10
const ORIGINS = 20
const AT_ONCE = 5
const SAMPLES = 40
const TAKERS = 8
const MBPS = 100
const SIZE = 64 * 2 ** 20
const TOKEN = 'a token of the benchmark'

/** 2,000 events a second to 100 readers of the Maestro's stream. */
export async function readers(): Promise<Measurement[]> {
  say(`events: ${RATE} a second to ${READERS} readers …`)
  const folder = scratch('disk')
  const maestro = await startMaestro(folder.path, MAESTRO_PORT)
  const rest = new RestClient({ name: 'the Maestro', baseUrl: maestro.url })
  const count = RATE * SECONDS
  const child = new Child(process.execPath, [
    projectFile('dist/bench/event-readers.js'),
    String(MAESTRO_PORT),
    String(READERS),
    String(count),
  ])
  try {
    for (let i = 0; i < ORIGINS; i++)
      await rest.call('POST', '/register', LeaseSchema, {
        body: { peer: `http://127.0.0.1:${FIRST_PORT + i}`, grpc_port: 1, files: [], id: `P${i}` },
      })
    await child.line(/ready/, 20_000)
    // The leases were told to nobody who reads yet.
    const begin = performance.now()
    const posts: Promise<unknown>[] = []
    for (let sent = 0; sent < count; sent += AT_ONCE) {
      const origin = (sent / AT_ONCE) % ORIGINS
      const events = Array.from({ length: AT_ONCE }, (_, i) => eventOf(`P${origin}`, sent + i))
      posts.push(rest.call('POST', '/events', z.unknown(), { body: { events } }))
      const ahead = ((sent + AT_ONCE) / RATE) * 1000 - (performance.now() - begin)
      if (ahead > 0) await pause(ahead)
    }
    await Promise.all(posts)
    const seconds = (performance.now() - begin) / 1000
    const line = await child.line(/delivered/, 60_000)
    const got = JSON.parse(line) as { delivered: number; disordered: number; p50: number; p99: number; max: number }
    const whole = got.delivered === count * READERS && got.disordered === 0
    return [
      {
        what: `embedded: published a second, to ${READERS} readers`,
        value: count / seconds,
        unit: '/s',
        target: { atLeast: 0.99 * RATE },
        note: `each accepted; ${AT_ONCE} a request, of ${ORIGINS} peers`,
      },
      {
        what: 'embedded: delivered, in order',
        value: (100 * got.delivered) / (count * READERS),
        unit: '%',
        target: { atLeast: 100 },
        note: `${got.delivered} of ${count * READERS}, ${got.disordered} out of order`,
      },
      {
        what: 'embedded: from published to read, p99',
        ...(whole ? { value: got.p99 } : {}),
        unit: 'ms',
        target: { atMost: 100 },
        note: `median ${got.p50} ms, the longest ${got.max} ms; Maestro at most ${Math.round(maestro.peakMB())} MB`,
      },
    ]
  } finally {
    await child.stop()
    await rest.close()
    await maestro.stop()
    folder.remove()
  }
}

function eventOf(origin: string, n: number): NetworkEvent {
  const data = { name: `file-${n}` as never, revision: { from: 0, to: 0 } }
  return {
    v: 1,
    id: `${origin}-bench.${n + 1}`,
    origin,
    seq: n + 1,
    time: new Date().toISOString(),
    type: 'file.removed',
    data,
  }
}

/** From a file written at P1 to its line in `peer events --follow` at P2. */
export async function latency(carrier: string, events: string, prefix: string): Promise<Measurement[]> {
  say(`events: from a file to a line of "peer events", ${carrier} …`)
  const folder = scratch('disk')
  const shared = { events, events_prefix: prefix }
  const running: Running[] = []
  let watching: Child | undefined
  try {
    running.push(await startMaestro(folder.path, MAESTRO_PORT, LOOPBACK, { lease_ms: 600_000, ...shared }))
    const settings = { maestro_url: `http://127.0.0.1:${MAESTRO_PORT}`, ...shared }
    for (const [i, id] of ['P1', 'P2'].entries())
      running.push(await startPeer(folder.path, id, FIRST_PORT + i, settings))
    const p2 = running[2]!.url
    await until('P2 did not register', 20_000, () => new AgentClient(p2).isRegistered())
    const args = [projectFile('dist/peer/main.js'), 'events', '--follow', '--type', 'file.added', '--json']
    watching = new Child(process.execPath, [...args, '--agent', p2])
    const times: number[] = []
    for (let i = -3; i < SAMPLES; i++) {
      const name = `written-${i + 3}.txt`
      const staged = join(folder.path, name)
      writeFileSync(staged, `${name}\n`)
      const begin = performance.now()
      renameSync(staged, join(folder.path, 'P1', name))
      await watching.line(new RegExp(name), 20_000)
      if (i >= 0) times.push(performance.now() - begin)
      await pause(30)
    }
    return [
      {
        what: `${carrier}: from a file at P1 to "file.added" printed at P2, median`,
        value: median(times),
        unit: 'ms',
        target: { atMost: 300 },
        note: `of ${SAMPLES}; the longest ${Math.max(...times).toFixed(0)} ms; a file is left alone for 100 ms before it is hashed`,
      },
    ]
  } finally {
    await watching?.stop()
    for (const program of running.reverse()) await program.stop()
    folder.remove()
  }
}

/** `peer publish --wait`: how long after the last verified copy it returns. */
export async function barrier(): Promise<Measurement[]> {
  const missing = ShapedNetwork.missing()
  const what = `barrier: 64 MiB to ${TAKERS} agents at ${MBPS} Mbit/s: returns after the last verified copy`
  if (missing !== undefined) return [{ what, unit: 's', note: `skipped: needs ${missing}` }]
  say(`events: publish 64 MiB to ${TAKERS} agents and wait for them …`)
  const folder = scratch('memory')
  const network = new ShapedNetwork()
  const running: Running[] = []
  try {
    const maestro = await startMaestro(folder.path, 9000, network.addHost(), {})
    running.push(maestro)
    const agent = async (id: string) => {
      const host = network.addHost(MBPS)
      const settings = { grpc_port: 50_051, maestro_url: maestro.url, token: TOKEN }
      const agent = await startPeer(folder.path, id, 8000, settings, host)
      running.push(agent)
      await until(`${id} did not register`, 20_000, () => new AgentClient(agent.url, TOKEN).isRegistered())
      return { id, host, url: agent.url, rest: new RestClient({ name: id, baseUrl: agent.url, token: TOKEN }) }
    }
    const publisher = await agent('publisher')
    const takers = await Promise.all(Array.from({ length: TAKERS }, (_, i) => agent(`taker-${i + 1}`)))
    for (const { rest } of takers)
      await rest.call('POST', '/follows', z.unknown(), { body: { pattern: '**', quota: 10 * SIZE } })
    const file = join(folder.path, 'film.mkv')
    makeFile(file, SIZE)
    const begin = Date.now()
    const [program = '', ...enter] = [...publisher.host.enter, process.execPath]
    const command = [
      ...[projectFile('dist/peer/main.js'), 'publish', file, '--wait', String(TAKERS), '--timeout', '5m', '--json'],
      ...['--agent', publisher.url, '--token', TOKEN],
    ]
    try {
      const { stdout } = await promisify(execFile)(program, [...enter, ...command], { timeout: 320_000 })
      const returned = Date.now()
      const { holders } = JSON.parse(stdout) as { holders: string[] }
      const ends = await Promise.all(
        takers.map(async ({ id, rest }) => {
          const { transfers } = await rest.call('GET', '/transfers', TransfersResponse)
          const done = transfers.find(({ state }) => state === 'done')
          if (!done) throw new Error(`${id} has no copy`)
          return Date.parse(done.started) + done.seconds * 1000
        }),
      )
      const last = Math.max(...ends)
      return [
        {
          what,
          value: (returned - last) / 1000,
          unit: 's',
          target: { atMost: 0.5 },
          note: `${holders.length} holders; all had it ${((last - begin) / 1000).toFixed(1)} s after the command began`,
        },
      ]
    } finally {
      await Promise.all([publisher, ...takers].map(({ rest }) => rest.close()))
    }
  } finally {
    await Promise.all(running.map((program) => program.stop()))
    network.close()
    folder.remove()
  }
}
