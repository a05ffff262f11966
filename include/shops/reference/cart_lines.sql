SELECT
    cart_lines.cart_id,
    cart_lines.line_id,
    cart_lines.product_id,
    cart_lines.variant_id,
    cart_lines.quantity,
    cart_lines.price
FROM cart_lines
