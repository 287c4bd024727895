import { expect, test } from 'vitest'
import { News } from './news.ts'

const corrupt = expect.objectContaining({ code: 'corrupt' })

test('each piece may be told of, one by one, as fast as a provider gathers its news', () => {
  let now = 0
  const news = new News(50_000, () => now)
  for (let piece = 0; piece < 50_000; piece++, now += 10) news.have([piece, 1])
})

test('news that gathered while nobody read is let pass', () => {
  const news = new News(100_000, () => 0)
  for (let piece = 0; piece < 4000; piece++) news.have([piece, 1])
  for (let i = 0; i < 100; i++) news.talk(8000)
})

test('who tells of the same pieces again and again is stopped', () => {
  let now = 0
  const news = new News(1000, () => now)
  const again = () => {
    for (let i = 0; i < 10; i++, now += 1000) news.have([0, 1000])
  }
  expect(again).toThrow(corrupt)
})

test('who tells of pieces one by one faster than they could come is stopped', () => {
  let now = 0
  const news = new News(100_000, () => now)
  const flood = () => {
    for (let piece = 0; piece < 10_000; piece++, now += 0.1) news.have([piece, 1])
  }
  expect(flood).toThrow(corrupt)
})

test('pieces that do not exist are none', () => {
  expect(() => new News(6).have([5, 2])).toThrow(corrupt)
  expect(() => new News(6).have([5])).toThrow(corrupt)
})

test('who tells of takers again and again is stopped, but not one who gathers them', () => {
  let now = 0
  const honest = new News(6, () => now)
  for (let i = 0; i < 10_000; i++, now += 50) honest.talk(6000)
  const news = new News(6, () => now)
  const flood = () => {
    for (let i = 0; i < 1000; i++, now += 10) news.talk(6000)
  }
  expect(flood).toThrow(corrupt)
})

test('a message that is no frame is small', () => {
  expect(() => new News(6).talk(8193)).toThrow(corrupt)
})
