import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parseFileName, parsePeerId } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import { addressOf, Friends } from './friends.ts'

const PRIMARY = 'http://127.0.0.1:1'

function friendsIn(folder: string): Friends {
  const options = { self: parsePeerId('me'), primary: PRIMARY, file: join(folder, 'friends.json'), timeoutMs: 1000 }
  const friends = new Friends({ log: silentLog }, options)
  onTestFinished(() => friends.close())
  return friends
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'friends-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

/** Something that says it is a peer of this id. */
async function peer(id: string, restUrl = 'http://192.168.1.9:8000'): Promise<string> {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json')
    const search = { peer: 'another', file: null, exists: false, grpc_port: 1, matches: [] }
    const info = { id, rest_url: restUrl, grpc_port: 50051 }
    response.end(JSON.stringify(request.url?.startsWith('/search') ? search : info))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const urls = (friends: Friends) => friends.list().map(({ url }) => url)

test('what was added and removed is so after a restart too', async () => {
  const folder = temporaryFolder()
  const friends = friendsIn(folder)
  const [p2, p3] = [await peer('P2'), await peer('P3')]
  await friends.add(p2)
  await friends.add(p3)
  await friends.remove(p2)
  expect(urls(friendsIn(folder))).toEqual([PRIMARY, p3])
})

test('one that is added is known by its id at once', async () => {
  const friends = friendsIn(temporaryFolder())
  await friends.add(await peer('P2'))
  expect(friends.list()[1]).toMatchObject({ id: 'P2', role: 'added', alive: true })
})

test('this peer itself, one that does not answer and what is no URL are not added', async () => {
  const friends = friendsIn(temporaryFolder())
  await expect(friends.add(await peer('me'))).rejects.toThrow('this agent itself')
  await expect(friends.add('http://127.0.0.1:2')).rejects.toThrow('does not answer')
  await expect(friends.add('ftp://x')).rejects.toThrow('not an http URL')
  expect(urls(friends)).toEqual([PRIMARY])
})

test('one that is there already, under another address too, changes nothing', async () => {
  const friends = friendsIn(temporaryFolder())
  const p2 = await peer('P2')
  await friends.add(p2)
  await friends.add(p2)
  await friends.add(await peer('P2'))
  expect(urls(friends)).toEqual([PRIMARY, p2])
})

test('a change that can not be saved is refused and changes nothing', async () => {
  const folder = temporaryFolder()
  const friends = friendsIn(folder)
  const p2 = await peer('P2')
  await friends.add(p2)
  const before = urls(friends)
  mkdirSync(join(folder, 'friends.json.new'))
  await expect(friends.add(await peer('P3'))).rejects.toThrow()
  await expect(friends.remove(p2)).rejects.toThrow()
  expect(urls(friends)).toEqual(before)
})

test('the list has an end', async () => {
  const friends = friendsIn(temporaryFolder())
  for (let i = 2; i <= 64; i++) await friends.add(await peer(`P${i}`))
  await expect(friends.add(await peer('P65'))).rejects.toThrow('64 friends are the most')
  expect(friends.list()).toHaveLength(64)
})

describe('the address of a friend', () => {
  const portOf = (url: string) => Number(new URL(url).port)

  test('is known once it was identified: as its user wrote it', async () => {
    const friends = friendsIn(temporaryFolder())
    const p2 = await peer('P2')
    await friends.add(p2.replace('127.0.0.1', 'localhost'))
    expect(friends.contacts()).toEqual([{ peer: 'P2', host: '127.0.0.1', restPort: portOf(p2), grpcPort: 50051 }])
  })

  test('is asked for again of those that did not answer', async () => {
    const folder = temporaryFolder()
    const p2 = await peer('P2')
    await friendsIn(folder).add(p2)
    const restarted = friendsIn(folder)
    expect(restarted.contacts()).toEqual([])
    await restarted.identify()
    expect(restarted.contacts()).toMatchObject([{ peer: 'P2', host: '127.0.0.1' }])
    expect(restarted.list().map(({ alive }) => alive)).toEqual([false, true])
  })

  test('is asked for again where it is not believed to be there any more: it may have begun anew with another port', async () => {
    let port = 50051
    const server = createServer((_, response) => {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ id: 'P2', rest_url: 'http://192.168.1.9:8000', grpc_port: port }))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    const friends = friendsIn(temporaryFolder())
    await friends.add(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    port = 50052
    await friends.identify()
    expect(friends.contacts()).toMatchObject([{ peer: 'P2', grpcPort: 50051 }])
    await friends.identify(undefined, () => false)
    expect(friends.contacts()).toMatchObject([{ peer: 'P2', grpcPort: 50052 }])
  })

  test('is forgotten where another peer answers there', async () => {
    const friends = friendsIn(temporaryFolder())
    await friends.add(await peer('P2'))
    await friends.peers()[1]!.search({ file: parseFileName('x') }, new AbortController().signal)
    expect(friends.contacts()).toEqual([])
  })

  test('is never that of this peer itself', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'friends.json'), JSON.stringify([await peer('me')]))
    const friends = friendsIn(folder)
    await friends.identify()
    expect(friends.contacts()).toEqual([])
  })

  test.each([
    ['http://192.168.1.20:8000', 'http://10.0.0.1:81', { host: '192.168.1.20', restPort: 8000 }],
    ['http://[fd12::7]:8000', 'http://10.0.0.1:81', { host: 'fd12::7', restPort: 8000 }],
    ['http://localhost:8001', 'http://10.0.0.1:81', { host: '127.0.0.1', restPort: 8001 }],
    ['http://lab-pc7:8000', 'http://192.168.1.21:8005', { host: '192.168.1.21', restPort: 8005 }],
    ['http://lab-pc7:8000', 'http://127.0.0.1:8000', undefined],
    ['http://lab-pc7:8000', 'http://169.254.169.254:80', undefined],
    ['http://lab-pc7:8000', 'http://lab-pc7.local:8000', undefined],
    ['http://lab-pc7:8000', 'nonsense://', undefined],
  ])('written as %s, advertised as %s, is %j', (url, advertised, address) => {
    expect(addressOf(url, advertised)).toEqual(address)
  })
})
