-- A cart that is empty or has become an order is not open, whatever its row says: there is nothing to remind of.
SELECT
    carts.cart_id,
    carts.updated_at,
    carts.customer_id,
    carts.currency_code::text AS currency_code,
    carts.order_total,
    carts.checkout_token,
    carts.is_open
        AND EXISTS (SELECT FROM cart_lines WHERE cart_lines.cart_id = carts.cart_id)
        AND NOT EXISTS (SELECT FROM orders WHERE orders.cart_id = carts.cart_id) AS is_open
FROM carts
