import { describe, expect, test } from 'vitest'
import type { ContentId } from '../../common/ids.ts'
import { MIN_PIECE_SIZE } from '../../common/merkle.ts'
import { piecesOf } from './runs.ts'
import type { Want } from './source.ts'
import { SwarmState } from './swarm-state.ts'

const PIECE = MIN_PIECE_SIZE

/** A state over `count` pieces, and what each provider has been told by now. */
class Told {
  readonly state: SwarmState
  readonly wanted = new Map<string, Set<number>>()
  readonly credit = new Map<string, number>()
  now = 1000

  constructor(count: number, missing: Iterable<number> = Array(count).keys()) {
    const manifest = { id: 'a'.repeat(64) as ContentId, size: count * PIECE, pieceSize: PIECE, hashes: Buffer.alloc(0) }
    this.state = new SwarmState(manifest, missing, () => 0)
  }

  join(key: string, runs: number[]): this {
    this.state.add(key, this.now)
    this.wanted.set(key, new Set())
    this.credit.set(key, 0)
    if (runs.length > 0) this.state.has(key, runs, this.now)
    return this.tell()
  }

  has(key: string, runs: number[]): this {
    this.state.has(key, runs, this.now)
    return this.tell()
  }

  tell(): this {
    for (const [key, want] of this.state.changes()) this.#told(key, want)
    return this
  }

  #told(key: string, { add = [], remove = [], credit = 0 }: Want): void {
    const wanted = this.wanted.get(key)!
    for (const piece of piecesOf(add)) wanted.add(piece)
    for (const piece of piecesOf(remove)) wanted.delete(piece)
    this.credit.set(key, this.credit.get(key)! + credit)
  }

  /** The provider sends this piece, or any that it may, in `ms`. */
  send(key: string, piece = [...this.wanted.get(key)!][0]!, ms = 100): number {
    this.begin(key, piece)
    this.now += ms
    this.state.bytes(key, PIECE, this.now)
    this.state.verified(key, piece, this.now)
    this.tell()
    return piece
  }

  begin(key: string, piece = [...this.wanted.get(key)!][0]!): number {
    expect(this.credit.get(key), `credit of ${key}`).toBeGreaterThan(0)
    this.credit.set(key, this.credit.get(key)! - 1)
    this.wanted.get(key)!.delete(piece)
    this.state.begun(key, piece, this.now)
    this.tell()
    return piece
  }

  drop(key: string): this {
    this.state.drop(key, this.now)
    this.wanted.delete(key)
    return this.tell()
  }

  pieces(key: string): number[] {
    return [...this.wanted.get(key)!].sort((a, b) => a - b)
  }
}

describe('a provider that has everything', () => {
  test('may choose among all that is missing, with two pieces under way', () => {
    const told = new Told(10, [1, 2, 5, 7, 8]).join('seeder', [0, 10])
    expect(told.pieces('seeder')).toEqual([1, 2, 5, 7, 8])
    expect(told.credit.get('seeder')).toBe(2)
  })

  test('that is fast gets more under way, what it sends in a quarter of a second', () => {
    const told = new Told(200).join('seeder', [0, 200])
    for (let i = 0; i < 60; i++) told.send('seeder', undefined, 10)
    // 100 pieces a second.
    expect(told.credit.get('seeder')).toBeGreaterThanOrEqual(24)
    expect(told.credit.get('seeder')).toBeLessThanOrEqual(28)
  })

  test('shares with another such one, by the same rule at every taker', () => {
    const one = new Told(100).join('A', [0, 100]).join('B', [0, 100])
    const other = new Told(100).join('B', [0, 100]).join('A', [0, 100])
    expect([...one.pieces('A'), ...one.pieces('B')].sort((a, b) => a - b)).toEqual([...Array(100).keys()])
    expect(one.pieces('A').length).toBeGreaterThan(30)
    expect(one.pieces('B').length).toBeGreaterThan(30)
    expect(other.pieces('A').filter((piece) => one.pieces('B').includes(piece)).length).toBeLessThan(6)
  })

  test('and has sent its share takes over half of what another has not begun', () => {
    const told = new Told(40).join('slow', [0, 40]).join('fast', [0, 40])
    for (let i = told.pieces('fast').length; i > 0; i--) told.send('fast')
    expect(told.pieces('fast').length).toBeGreaterThan(0)
    expect(told.pieces('fast').some((piece) => told.pieces('slow').includes(piece))).toBe(false)
  })
})

describe('a provider that lacks pieces', () => {
  test('is asked for what it has, as it tells of it, and for no more than may be under way', () => {
    const told = new Told(10).join('leecher', [])
    expect(told.pieces('leecher')).toEqual([])
    told.has('leecher', [4, 1])
    expect(told.pieces('leecher')).toEqual([4])
    told.has('leecher', [5, 5])
    expect(told.pieces('leecher')).toHaveLength(2)
    expect(told.credit.get('leecher')).toBe(2)
  })

  test('is asked for the rarest first', () => {
    const told = new Told(6).join('X', [0, 5]).join('Y', [0, 4]).drop('X').join('Z', [2, 2])
    told.join('X', [0, 5])
    expect(told.pieces('X')).toContain(4)
  })

  test('is given pieces before one that has all of them, which then does not send them', () => {
    const told = new Told(10).join('seeder', [0, 10]).join('leecher', [3, 1, 6, 1])
    expect(told.pieces('leecher')).toEqual([3, 6])
    expect(told.pieces('seeder')).toEqual([0, 1, 2, 4, 5, 7, 8, 9])
  })

  test('is not given what another has begun', () => {
    const told = new Told(10).join('seeder', [0, 10])
    told.begin('seeder', 3)
    told.join('leecher', [3, 1])
    expect(told.pieces('leecher')).toEqual([])
  })
})

describe('a piece', () => {
  test('is never wanted from two providers at once', () => {
    const told = new Told(50).join('A', [0, 50]).join('B', [0, 50]).join('C', [10, 20]).join('D', [15, 30])
    for (let step = 0; step < 30; step++) {
      for (const key of ['A', 'B', 'C', 'D'])
        if (told.wanted.get(key)!.size > 0 && told.credit.get(key)! > 0) told.send(key)
      const all = ['A', 'B', 'C', 'D'].flatMap((key) => told.pieces(key))
      expect(new Set(all).size).toBe(all.length)
    }
    expect(told.state.complete).toBe(true)
  })

  test('that came is taken back from whoever was to send it as well', () => {
    const told = new Told(4).join('A', [0, 4])
    told.begin('A', 0)
    // It arrives from somewhere else, as from an end game.
    told.state.verified('B', 0, told.now)
    const changes = [...told.state.changes()]
    expect(changes).toEqual([['A', expect.objectContaining({ remove: [0, 1] })]])
  })

  test('of a provider that is gone goes to the others', () => {
    const told = new Told(6).join('A', [0, 6])
    told.begin('A', 2)
    told.join('B', [0, 6]).drop('A')
    expect(told.pieces('B')).toEqual([0, 1, 2, 3, 4, 5])
  })

  test('that was given up by its provider is missing again', () => {
    const told = new Told(1).join('A', [0, 1])
    told.begin('A', 0)
    told.state.failed('A', 0, told.now)
    expect(told.tell().pieces('A')).toEqual([0])
  })

  test('that was here and is lost is fetched again', () => {
    const told = new Told(3, []).join('A', [0, 3])
    expect(told.state.complete).toBe(true)
    told.state.lost(1, told.now)
    expect(told.state.complete).toBe(false)
    expect(told.tell().pieces('A')).toEqual([1])
  })
})

describe('at the end', () => {
  test('one that has nothing to do takes over from one that is much slower', () => {
    const told = new Told(8).join('slow', [0, 8]).join('fast', [0, 8])
    told.send('slow', undefined, 4000)
    while (told.wanted.get('fast')!.size > 0) told.send('fast', undefined, 20)
    told.begin('slow')
    told.now += 100
    told.state.tick(told.now)
    told.tell()
    for (let i = 0; i < 8 && !told.state.complete; i++)
      if (told.wanted.get('fast')!.size > 0) told.send('fast', undefined, 20)
      else {
        told.now += 250
        told.state.tick(told.now)
        told.tell()
      }
    expect(told.state.complete).toBe(true)
  })

  test('nothing is asked for twice where all are equally fast', () => {
    const told = new Told(8).join('A', [0, 8]).join('B', [0, 8])
    let sent = 0
    while (!told.state.complete)
      for (const key of ['A', 'B'])
        if (told.wanted.get(key)!.size > 0 && told.credit.get(key)! > 0) {
          told.send(key)
          sent++
        }
    expect(sent).toBe(8)
  })
})
