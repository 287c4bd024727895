import { beforeEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import { type Known, KnownProviders } from './known-providers.ts'
import type { PieceSource } from './source.ts'

const silent = new NetworkError('unavailable', 'sent nothing for 15 s')
const wrong = new NetworkError('corrupt', 'sent wrong bytes in piece 7')

let notes: string[]
let providers: KnownProviders
beforeEach(() => {
  notes = []
  providers = new KnownProviders((note) => notes.push(note))
})

function source(peer: string, address = `${peer}:50051`): PieceSource {
  return { peer: peer as PeerId, address } as PieceSource
}

function hint(peer: string, address?: string): PieceSource {
  return { ...source(peer, address), hint: true }
}

function known(peer: string): Known {
  return [...providers.all].find((one) => one.source.peer === peer)!
}

function due(now: number): string[] {
  return providers.due(now).map(({ source }) => source.peer)
}

describe('who is known', () => {
  test('is known once, by address and by name', () => {
    expect(providers.add(source('P1'))).toBe(true)
    expect(providers.add(source('P9', 'P1:50051'))).toBe(false)
    expect(providers.add(source('P1', 'elsewhere:50051'))).toBe(false)
    expect(due(0)).toEqual(['P1'])
  })

  test('may be at another address once it failed at the one known', () => {
    providers.add(source('P1'))
    expect(providers.add(hint('P1', 'elsewhere:50051'))).toBe(false)
    providers.failed(known('P1'), silent, 0)
    expect(providers.add(hint('P1', 'elsewhere:50051'))).toBe(true)
  })

  test('is believed of the directory over what a stranger named', () => {
    providers.add(hint('P1', 'false:50051'))
    expect(providers.add(source('P1'))).toBe(true)
  })

  test('is not kept out by a liar of the same name', () => {
    providers.add(source('P1', 'false:50051'))
    providers.failed(known('P1'), wrong, 0)
    expect(providers.add(source('P1'))).toBe(true)
  })

  test('are 500 at most, half of them hints; who was located comes in for who was dropped', () => {
    for (let i = 0; i < 600; i++) providers.add(hint(`H${i}`))
    expect([...providers.all]).toHaveLength(250)
    for (let i = 0; i < 600; i++) providers.add(source(`P${i}`))
    expect([...providers.all]).toHaveLength(500)
    providers.failed(known('P7'), silent, 0)
    expect(providers.add(hint('H999'))).toBe(false)
    expect(providers.add(source('P999'))).toBe(true)
    expect([...providers.all]).toHaveLength(500)
    expect(known('P7')).toBeUndefined()
  })
})

describe('who may be asked', () => {
  test('is who was located, in that order, and then what others named, in any', () => {
    for (const peer of ['H1', 'H2', 'H3']) providers.add(hint(peer))
    for (const peer of ['P2', 'P1']) providers.add(source(peer))
    const orders = Array.from({ length: 100 }, () => due(0))
    for (const order of orders) expect(order.slice(0, 2)).toEqual(['P2', 'P1'])
    expect(new Set(orders.map((order) => order.join())).size).toBe(6)
  })

  test('is nobody who is connected, until they part', () => {
    providers.add(source('P1'))
    providers.connected(known('P1'))
    expect(due(0)).toEqual([])
    providers.parted()
    expect(due(0)).toEqual(['P1'])
  })

  test('is who failed after a second, doubled up to a minute', () => {
    providers.add(source('P1'))
    let now = 0
    const pauses = Array.from({ length: 8 }, () => {
      providers.failed(known('P1'), silent, now)
      const pause = providers.nextDue - now
      expect(due(providers.nextDue - 1)).toEqual([])
      now = providers.nextDue
      expect(due(now)).toEqual(['P1'])
      return pause
    })
    expect(pauses).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
    providers.proved(known('P1'))
    providers.failed(known('P1'), silent, now)
    expect(providers.nextDue - now).toBe(1000)
  })

  test('is never who lied', () => {
    providers.add(source('P1'))
    providers.failed(known('P1'), wrong, 0)
    providers.parted()
    expect(due(Number.MAX_SAFE_INTEGER)).toEqual([])
    expect(providers.nextDue).toBe(Number.POSITIVE_INFINITY)
  })
})

describe('people are told', () => {
  test('who was dropped and who banned, and why', () => {
    for (const peer of ['P1', 'P2']) providers.add(source(peer))
    providers.failed(known('P1'), silent, 0)
    providers.failed(known('P2'), wrong, 0)
    expect(notes).toEqual(['dropped P1: sent nothing for 15 s', 'banned P2: sent wrong bytes in piece 7'])
    expect(providers.faults.map(({ code }) => code)).toEqual(['unavailable', 'corrupt'])
  })

  test('nothing of what a stranger named and is not there: it is forgotten after three times', () => {
    providers.add(hint('H1'))
    for (let i = 0; i < 2; i++) {
      providers.failed(known('H1'), silent, 0)
      expect(providers.has('H1:50051')).toBe(true)
    }
    providers.failed(known('H1'), silent, 0)
    expect(providers.has('H1:50051')).toBe(false)
    expect(notes).toEqual([])
  })

  test('where such a one lied', () => {
    providers.add(hint('H1'))
    providers.failed(known('H1'), wrong, 0)
    expect(notes).toEqual(['banned H1: sent wrong bytes in piece 7'])
  })
})

test('it is hopeless where all lied or simulate, and not where nobody is known', () => {
  expect(providers.hopeless).toBe(false)
  for (const peer of ['P1', 'P2']) providers.add(source(peer))
  providers.failed(known('P1'), wrong, 0)
  expect(providers.hopeless).toBe(false)
  expect(providers.simulators).toBeUndefined()
  providers.simulates(known('P2'))
  expect(providers.hopeless).toBe(true)
  expect(providers.simulators!.due(0).map(({ source }) => source.peer)).toEqual(['P2'])
})
