SELECT
    order_lines.order_id,
    order_lines.line_id,
    order_lines.product_id,
    order_lines.variant_id,
    order_lines.quantity,
    order_lines.price,
    order_lines.discount
FROM order_lines
