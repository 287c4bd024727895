import { execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Clock, ManualClock } from '../clock.ts'
import type { PeerId } from '../ids.ts'
import { SqliteEventLog } from './sqlite-log.ts'
import { Webhook, type WebhookDeps, type WebhookOptions } from './webhook.ts'

const SECRET = 'a secret of the lab'
const cleanups: (() => unknown)[] = []
let clock: ManualClock
let log: SqliteEventLog
/** messages of the webhook's logger at level warn and above */
let warnings: { msg: string; problem?: string }[]

beforeEach(() => {
  clock = new ManualClock()
  log = SqliteEventLog.open(':memory:', { origin: 'P1', clock })
  cleanups.push(() => log.close())
  warnings = []
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

interface Posted {
  path: string
  headers: IncomingMessage['headers']
  body: string
}
type Answer = (request: Posted, response: ServerResponse) => void

/** An endpoint that remembers what was posted to it, and answers as it is told. */
async function endpoint(answer: Answer = (_, response) => response.end(), host = '127.0.0.1') {
  const posted: Posted[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('error', () => {})
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => {
      const said = { path: request.url ?? '', headers: request.headers, body }
      posted.push(said)
      answer(said, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  const { port } = server.address() as AddressInfo
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { posted, port, url: `http://${host}:${port}/hook?key=9` }
}

function create(options: Partial<WebhookOptions> & { url: string }, deps: Partial<WebhookDeps> = {}): Webhook {
  const logger = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line)) })
  return new Webhook(
    { log, clock, logger, random: () => 0, ...deps },
    { secret: SECRET, types: '*', allowInternal: true, ...options },
  )
}

async function started(options: Partial<WebhookOptions> & { url: string }, deps: Partial<WebhookDeps> = {}) {
  const webhook = create(options, deps)
  await webhook.start()
  cleanups.push(() => webhook.stop())
  return webhook
}

const expired = (peer: string) => ({ type: 'peer.expired', data: { peer: peer as PeerId } }) as const
const peerOf = ({ body }: Posted) => (JSON.parse(body) as { data: { peer: string } }).data.peer

/** Lets pauses pass until something is so. */
async function passing(seconds: number, condition: () => void): Promise<void> {
  await expect
    .poll(
      () => {
        clock.advance(seconds * 1000)
        try {
          condition()
          return true
        } catch {
          return false
        }
      },
      { interval: 5 },
    )
    .toBe(true)
}

describe('what is posted', () => {
  test('is the event as JSON, signed as in the Standard Webhooks specification', async () => {
    const { posted, url } = await endpoint()
    const webhook = await started({ url })
    const [event] = await log.publish([expired('P3')])
    await expect.poll(() => webhook.state).toEqual({ delivered: 1, failed: 0, problem: null })
    const [{ path, headers, body }] = posted as [Posted]
    expect(path).toBe('/hook?key=9')
    expect(JSON.parse(body)).toEqual(event)
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'webhook-id': event!.id,
      'webhook-timestamp': String(clock.now() / 1000),
    })
    expect(headers['user-agent']).toMatch(/^maestro-p2p\/\d/)
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`
    expect(headers['webhook-signature']).toBe(`v1,${createHmac('sha256', SECRET).update(signed).digest('base64')}`)
  })

  test('is signed by the bytes that a secret of the specification stands for', async () => {
    const { posted, url } = await endpoint()
    await started({ url, secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' })
    await log.publish([expired('P3')])
    await expect.poll(() => posted.length).toBe(1)
    const { headers, body } = posted[0]!
    const key = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64')
    const mac = createHmac('sha256', key).update(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`)
    expect(headers['webhook-signature']).toBe(`v1,${mac.digest('base64')}`)
  })

  test('is every event of the types that are wanted, in order', async () => {
    const { posted, url } = await endpoint()
    await started({ url, types: 'peer.expired' })
    for (let i = 0; i < 300; i++)
      await log.publish([expired(`P${i}`), { type: 'peer.withdrawn', data: { peer: 'P' as PeerId } }])
    await expect.poll(() => posted.length, { timeout: 5000 }).toBe(300)
    expect(posted.map(peerOf)).toEqual(Array.from({ length: 300 }, (_, i) => `P${i}`))
  })

  test('goes on after a restart where it was, and misses nothing meanwhile', async () => {
    let stuck = false
    const { posted, url } = await endpoint((request, response) => {
      if (peerOf(request) !== 'P2' || !stuck) response.end()
    })
    const first = create({ url })
    await first.start()
    stuck = true
    await log.publish([expired('P0'), expired('P1'), expired('P2'), expired('P3')])
    await expect.poll(() => posted.length).toBe(3)
    await first.stop()
    expect(first.state.delivered).toBe(2)
    await log.publish([expired('P4')])
    stuck = false
    await started({ url })
    await expect.poll(() => posted.map(peerOf)).toEqual(['P0', 'P1', 'P2', 'P2', 'P3', 'P4'])
  })
})

describe('an endpoint', () => {
  test('that fails is asked again, ever more rarely, until it takes the event', async () => {
    const slept: number[] = []
    const watched: Clock = {
      now: () => clock.now(),
      sleep: (ms, signal) => {
        slept.push(ms)
        return clock.sleep(ms, signal)
      },
    }
    const { posted, url } = await endpoint((_, response) => response.writeHead(posted.length < 14 ? 500 : 204).end())
    const webhook = await started({ url }, { clock: watched })
    await log.publish([expired('P3'), expired('P4')])
    await expect
      .poll(() => webhook.state.problem)
      .toMatch(/^the webhook at http:\/\/127\.0\.0\.1:\d+ answers with status 500$/)
    await passing(300, () => expect(webhook.state).toEqual({ delivered: 2, failed: 0, problem: null }))
    const pauses = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300].map((seconds) => seconds * 1000)
    expect(slept.filter((ms) => pauses.includes(ms))).toEqual(pauses)
    expect(posted.map(peerOf)).toEqual([...Array(14).fill('P3'), 'P4'])
    expect(new Set(posted.map(({ headers }) => headers['webhook-id'])).size).toBe(2)
    expect(new Set(posted.map(({ headers }) => headers['webhook-timestamp'])).size).toBeGreaterThan(10)
    expect(warnings.length).toBe(1)
  })

  test('that is away gets everything once it is there', async () => {
    const { port, posted } = await endpoint()
    let there = false
    const webhook = await started(
      { url: `http://hooks.test:${port}/` },
      {
        resolve: async () => {
          if (!there) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })
          return [{ address: '127.0.0.1', family: 4 }]
        },
      },
    )
    await log.publish([expired('P3'), expired('P4')])
    await expect
      .poll(() => webhook.state.problem)
      .toBe(`the webhook at http://hooks.test:${port} does not answer (ENOTFOUND)`)
    there = true
    await passing(1, () => expect(posted.map(peerOf)).toEqual(['P3', 'P4']))
  })

  test('that never answers costs its time and no more', async () => {
    let patient = true
    const { posted, url } = await endpoint((_, response) => {
      if (!patient) response.end()
    })
    const webhook = await started({ url, timeoutMs: 100 })
    await log.publish([expired('P3')])
    await expect.poll(() => webhook.state.problem).toMatch(/does not answer within 0\.1 s$/)
    patient = false
    await passing(1, () => expect(webhook.state.delivered).toBe(1))
    expect(posted.length).toBeGreaterThan(1)
  })

  test('that does not answer holds nothing up when this process stops', async () => {
    const { posted, url } = await endpoint(() => {})
    const webhook = create({ url })
    await webhook.start()
    await log.publish([expired('P3')])
    await expect.poll(() => posted.length).toBe(1)
    const begin = performance.now()
    await webhook.stop()
    expect(performance.now() - begin).toBeLessThan(1000)
  })

  test('whose answer has no end is cut off, and has taken the event', async () => {
    let written = 0
    const { url } = await endpoint((_, response) => {
      const chunk = Buffer.alloc(64 * 1024)
      const more = () => {
        while (!response.destroyed && written < 512 * 1024 * 1024) {
          written += chunk.length
          if (!response.write(chunk)) return void response.once('drain', more)
        }
      }
      more()
    })
    const webhook = await started({ url })
    await log.publish([expired('P3'), expired('P4')])
    await expect.poll(() => webhook.state.delivered, { timeout: 5000 }).toBe(2)
    expect(written).toBeLessThan(64 * 1024 * 1024)
  })

  test('whose answer has headers without end has not taken it', async () => {
    const { url } = await endpoint((_, response) => {
      for (let i = 0; i < 100; i++) response.setHeader(`x-${i}`, 'x'.repeat(1000))
      response.end()
    })
    const webhook = await started({ url })
    await log.publish([expired('P3')])
    await expect.poll(() => webhook.state.problem).toMatch(/does not answer \(UND_ERR_HEADERS_OVERFLOW\)$/)
    expect(webhook.state.delivered).toBe(0)
  })

  test('that leads elsewhere is not followed, and said to do so', async () => {
    const target = await endpoint()
    const { url } = await endpoint((_, response) => response.writeHead(307, { location: target.url }).end())
    const webhook = await started({ url })
    await log.publish([expired('P3')])
    await expect.poll(() => webhook.state.problem).toMatch(/answers with status 307: give the address that it leads to/)
    expect(target.posted).toEqual([])
  })

  test.each([
    [410, 1],
    [404, 3],
    [401, 3],
  ])(
    'that answers %i keeps later events from nothing: posted %i times, an event is given up',
    async (status, times) => {
      const { posted, url } = await endpoint((request, response) => {
        response.writeHead(peerOf(request) === 'P3' ? status : 200).end()
      })
      const webhook = await started({ url })
      await log.publish([expired('P3'), expired('P4')])
      await passing(1, () => expect(webhook.state).toEqual({ delivered: 1, failed: 1, problem: null }))
      expect(posted.map(peerOf)).toEqual([...Array(times).fill('P3'), 'P4'])
      expect(warnings.map(({ msg }) => msg)).toContain('the webhook rejects an event')
    },
  )

  test.each([408, 429])('that answers %i is asked again as often as it takes', async (status) => {
    const { posted, url } = await endpoint((_, response) => response.writeHead(posted.length < 6 ? status : 200).end())
    const webhook = await started({ url })
    await log.publish([expired('P3')])
    await passing(1, () => expect(webhook.state).toEqual({ delivered: 1, failed: 0, problem: null }))
    expect(posted.length).toBe(6)
  })

  test('that rejects everything is warned of now and then, while all is counted', async () => {
    const { url } = await endpoint((_, response) => response.writeHead(410).end())
    const webhook = await started({ url })
    await log.publish(Array.from({ length: 100 }, (_, i) => expired(`P${i}`)))
    await expect.poll(() => webhook.state.failed, { timeout: 5000 }).toBe(100)
    expect(warnings.length).toBeLessThan(10)
  })

  test('with a certificate that nobody here trusts gets nothing', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'webhook-'))
    cleanups.push(() => rmSync(folder, { recursive: true }))
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-days', '1']
    const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-keyout', key, '-out', cert]
    execFileSync('openssl', ['req', '-x509', '-nodes', ...made, ...subject], { stdio: 'ignore' })
    let requests = 0
    const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, () => requests++)
    server.on('tlsClientError', () => {})
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    cleanups.push(() => server.close())
    const webhook = await started({ url: `https://localhost:${(server.address() as AddressInfo).port}/` })
    await log.publish([expired('P3')])
    await expect
      .poll(() => webhook.state.problem)
      .toMatch(/^the webhook at https:\/\/localhost:\d+ has a certificate that is not trusted here/)
    expect(requests).toBe(0)
  })
})

describe('an internal address', () => {
  const notAllowed = { allowInternal: false }

  test.each([
    'http://127.0.0.1:PORT/',
    'http://2130706433:PORT/',
    'http://0x7f.1:PORT/',
    'http://0177.0.0.01:PORT/',
    'http://[::1]:PORT/',
    'http://[::ffff:127.0.0.1]:PORT/',
    'http://0:PORT/',
    'http://localhost:PORT/',
    'http://app.localhost.:PORT/',
    'http://metadata.google.internal:PORT/',
    'http://169.254.169.254:PORT/',
  ])('as %s gets nothing, and the problem names the key that would allow it', async (text) => {
    const { port, posted } = await endpoint()
    const webhook = await started({ url: text.replace('PORT', String(port)), ...notAllowed })
    await log.publish([expired('P3')])
    await expect
      .poll(() => webhook.state.problem)
      .toMatch(/is at an internal address.*"webhook_allow_internal" is true$/)
    expect(posted).toEqual([])
  })

  test('among those of a name keeps everything from it, whatever the other addresses are', async () => {
    const { port, posted } = await endpoint()
    const webhook = await started(
      { url: `http://hooks.test:${port}/`, ...notAllowed },
      {
        resolve: async () => [
          { address: '8.8.8.8', family: 4 },
          { address: '::ffff:127.0.0.1', family: 6 },
        ],
      },
    )
    await log.publish([expired('P3')])
    await expect.poll(() => webhook.state.problem).toContain('is at an internal address (::ffff:127.0.0.1)')
    expect(posted).toEqual([])
  })

  test('that a name takes on later is not connected to', async () => {
    // 127.0.0.2 plays the part of an address outside.
    const outside = await endpoint((_, response) => response.writeHead(200, { connection: 'close' }).end(), '127.0.0.2')
    let address = '127.0.0.2'
    const webhook = await started(
      { url: `http://hooks.test:${outside.port}/`, ...notAllowed },
      { isInternal: (host) => host === '127.0.0.1', resolve: async () => [{ address, family: 4 }] },
    )
    await log.publish([expired('P3')])
    await expect.poll(() => webhook.state.delivered).toBe(1)
    address = '127.0.0.1'
    await log.publish([expired('P4')])
    await expect.poll(() => webhook.state.problem).toContain('is at an internal address (127.0.0.1)')
    expect(outside.posted.map(({ headers }) => headers.host)).toEqual([`hooks.test:${outside.port}`])
  })

  test('is tried again now and then, warned of once, and its events are posted once it is none', async () => {
    const { port, posted } = await endpoint()
    let isInternal = true
    let asked = 0
    const webhook = await started(
      { url: `http://hooks.test:${port}/`, ...notAllowed },
      {
        isInternal: (host) => host !== 'hooks.test' && isInternal,
        resolve: async () => {
          asked++
          return [{ address: '127.0.0.1', family: 4 }]
        },
      },
    )
    await log.publish([expired('P3')])
    await expect.poll(() => webhook.state.problem).not.toBe(null)
    await passing(60, () => expect(asked).toBeGreaterThan(4))
    expect(warnings.length).toBe(1)
    isInternal = false
    await passing(60, () => expect(posted.map(peerOf)).toEqual(['P3']))
  })
})

test.each([
  [{ url: 'nowhere' }, 'webhook_url is not a URL'],
  [{ url: 'ftp://x/' }, 'webhook_url is not an http'],
  [{ url: 'https://me:pass@x/' }, 'webhook_url has a user name or password in it'],
  [{ url: 'https://x/', secret: undefined }, 'webhook_url is given without webhook_secret'],
  [{ url: 'https://x/', secret: 'whsec_?!' }, 'webhook_secret begins with "whsec_"'],
  [{ url: 'https://x/', types: 'file.praised' }, 'webhook_types: there are no events "file.praised"'],
])('a webhook with %o is refused: %s', (options, why) => {
  expect(() => create(options)).toThrow(why)
})
