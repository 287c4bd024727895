import { describe, expect, it } from 'vitest'
import { NetworkError } from '../errors.ts'
import { brokerProblem, parseBrokerAddress } from './amqp-address.ts'

describe('the address of a RabbitMQ', () => {
  it.each([
    ['amqp://ann:secret@rabbit:5673', 'amqp://rabbit:5673', { port: '5673', vhost: '/', username: 'ann', tls: false }],
    ['amqp://rabbit', 'amqp://rabbit:5672', { port: '5672', username: 'guest', password: 'guest', heartbeat: 10 }],
    ['amqps://ann:secret@rabbit', 'amqps://rabbit:5671', { port: '5671', tls: true }],
    ['amqp://ann:p%40ss@rabbit/lab%2F1', 'amqp://rabbit:5672/lab/1', { vhost: 'lab/1', password: 'p@ss' }],
    ['amqp://ann:secret@[::1]:5672/', 'amqp://[::1]:5672', { hostname: '::1', vhost: '/' }],
    ['amqp://ann:secret@rabbit?heartbeat=3', 'amqp://rabbit:5672', { heartbeat: 3 }],
  ])('%s is shown as %s', (text, place, options) => {
    const address = parseBrokerAddress(text)
    expect(address.place).toBe(place)
    expect(address.options).toMatchObject(options)
  })

  it.each(['amqp://ann:50%off@rabbit', 'amqp://50%off@rabbit', 'amqp://rabbit/50%off'])(
    'a "%" that encodes nothing is told without the password: %s',
    (text) => {
      expect(() => parseBrokerAddress(text)).toThrow(
        expect.objectContaining({ code: 'invalid', message: expect.not.stringContaining('off') }),
      )
    },
  )

  it('every failure becomes "unavailable", in words that name the place', () => {
    for (const code of ['ECONNREFUSED', 'ACCESS_REFUSED', 'CONN_CLOSE', 'NOT_ALLOWED', 'FRAME_ERROR', 'WHATEVER'])
      for (const open of [true, false]) {
        const problem = brokerProblem(Object.assign(new Error('\u001b[31mred'), { code }), 'amqp://rabbit:5672', open)
        expect(problem).toMatchObject({ code: 'unavailable', details: { reason: code } })
        expect(problem.message).toContain('amqp://rabbit:5672')
        expect(problem.message).not.toContain('\u001b')
      }
  })

  it('a failure that is told already stays what it is', () => {
    const told = new NetworkError('unavailable', 'told')
    expect(brokerProblem(told, 'amqp://rabbit:5672', true)).toBe(told)
  })
})
